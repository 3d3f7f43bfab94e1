//go:build goolm

package e2ee_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A homeserver answers a claim of one-time keys with those of devices that nobody has asked for.
// Who was asked for gets the room's key all the same.
func TestClaimOfKeysThatNobodyAskedFor(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	conf, proxy := proxied(t, bot.config(t, room))
	edited := 0
	proxy.Inject(homeserver.Fault{Match: to("POST", "/keys/claim"), Do: homeserver.Edit(func(answer any) {
		users, ok := answer.(map[string]any)["one_time_keys"].(map[string]any)
		if !ok {
			return
		}
		key := map[string]any{"signed_curve25519:AAAA": map[string]any{"key": "x"}}
		if devices, ok := users[other.UserID.String()].(map[string]any); ok {
			devices["INVENTED"] = key
			edited++
		}
		users["@nobody:example.org"] = map[string]any{"INVENTED": key}
	})})
	memory := open(t, conf)
	require.NoError(t, memory.Set("key", []byte(`"secret"`)))
	require.NotZero(t, edited)
	require.Contains(t, string(other.decrypt(t, room, bot.pointers(t, room)["key"]).Content.VeryRaw), "secret")
	rig.Has(t, memory, "key", `"secret"`)
}
