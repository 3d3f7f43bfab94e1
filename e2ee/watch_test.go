//go:build goolm

package e2ee_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// In an encrypted room Watch tells values decrypted, and of several in a row that nobody has taken the last one, as
// the others may be redacted by then. History knows the former ones, but for the one that was there when the key was
// deleted, of which it knows who set it, and when.
func TestWatchAndHistory(t *testing.T) {
	for name, layout := range map[string]matrix.StateKey{"single": matrix.OneStateKey, "perkey": matrix.PerKey} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bot, other := register(t), register(t)
			room := bot.newRoom(t, other.Account, rig.Writable)
			conf, theirs := bot.config(t, room), other.config(t, room)
			conf.SingleStateKey, theirs.SingleStateKey = layout, layout
			memory, others := open(t, conf), open(t, theirs)
			changes := memory.InRoom("main").Watch(t.Context(), "")
			told := make(chan matrix.Change)
			go func() {
				defer close(told)
				for change, err := range changes {
					if errors.Is(err, matrix.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
					}
					told <- change
				}
			}()
			next := func(key, value string, by account) {
				t.Helper()
				select {
				case change := <-told:
					require.Equal(t, key, change.Key)
					require.Equal(t, value, string(change.Value))
					require.Equal(t, by.UserID.String(), change.Sender)
				case <-time.After(30 * time.Second):
					require.FailNow(t, "nothing is told", "of %s", key)
				}
			}
			require.NoError(t, others.Set("tea", []byte(`"green"`)))
			next("tea", `"green"`, other)
			require.NoError(t, memory.Set("milk", []byte(`true`)))
			next("milk", `true`, bot)
			for _, value := range []string{`"white"`, `"black"`} {
				require.NoError(t, memory.Set("tea", []byte(value)))
			}
			rig.Eventually(30*time.Second)(t, func() bool {
				return string((<-told).Value) == `"black"`
			}, "the last value is told")
			was, err := memory.Delete("tea")
			require.NoError(t, err)
			require.True(t, was)
			next("tea", "", bot)
			require.NoError(t, memory.Close()) // by then what was deleted is redacted
			require.NoError(t, others.Close())
			for range told {
			}

			memory = open(t, conf)
			var former []string
			for change, err := range memory.InRoom("main").History(t.Context(), "tea") {
				if err != nil {
					require.ErrorIs(t, err, matrix.ErrUndecryptable)
					require.ErrorContains(t, err, "redacted")
				}
				former = append(former, fmt.Sprintf("%s by %s: %v", change.Value, change.Sender, err != nil))
			}
			require.Equal(t, []string{
				" by " + bot.UserID.String() + ": false", // deleted
				" by " + bot.UserID.String() + ": true",  // and so redacted
				`"white" by ` + bot.UserID.String() + ": false",
				`"green" by ` + other.UserID.String() + ": false",
			}, former)
		})
	}
}
