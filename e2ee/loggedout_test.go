//go:build goolm

package e2ee_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// Somebody logs out all devices of the bot's account, and the bot logs in again by password.
// Others encrypt for it again, and find its device signed.
func TestKeysAreThereAgainAfterALogout(t *testing.T) {
	for name, down := range map[string]bool{"while the bot runs": false, "while it is down": true} {
		t.Run(name, func(t *testing.T) {
			bot, friend := register(t), register(t)
			room := bot.newRoom(t, friend)
			raise(t, bot, room, friend.UserID)
			conf := bot.config(t, room)
			log, kept := rig.KeepLog()
			start := func() *matrix.Memory { return rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable()) }
			memory, theirs := start(), open(t, friend.config(t, room))
			device := memory.Client().DeviceID
			require.NoError(t, theirs.Set("before", []byte(`1`)))
			eventually(t, func() bool { return has(memory, "before") }, "what was written before")
			if down {
				require.NoError(t, memory.Close())
			}
			_, err := bot.LogoutAll(t.Context())
			require.NoError(t, err)
			if down {
				n := 0
				eventually(t, func() bool {
					n++
					require.NoError(t, theirs.Set("between", fmt.Appendf(nil, "%d", n)))
					return friend.sessionOf(t, room, "between") != friend.sessionOf(t, room, "before")
				}, "the friend goes on with the key that the bot has")
				memory = start()
				_, _, err := memory.Get("between")
				require.ErrorIs(t, err, matrix.ErrUndecryptable)
			}
			require.NoError(t, memory.Set("own", []byte(`1`)))
			require.Equal(t, device, memory.Client().DeviceID)

			fresh := newPeer(t, register(t)) // has seen no signature before
			require.Equal(t, id.TrustStateCrossSignedTOFU, fresh.trusts(t, bot, device))
			require.Greater(t, oneTimeKeys(t, memory.Client()), 40)
			eventually(t, func() bool { return has(theirs, "own") }, "the friend reads what the bot writes")
			require.NoError(t, theirs.Set("after", []byte(`1`)))
			eventually(t, func() bool { return has(memory, "after") }, "what was written after")
			require.Equal(t, 1, strings.Count(kept.String(), "no keys of the bot's device any more"))
			if !down && hasFallbackKeys(t) {
				fresh.takeKeys(t, bot.UserID, device)
				eventually(t, func() bool { _, found := fresh.claim(t, bot.UserID, device); return found }, "the fallback key")
			}
			if down {
				require.NoError(t, theirs.Set("between", []byte(`"again"`)))
				eventually(t, func() bool { return has(memory, "between") }, "what was written again")
			}
		})
	}
}
