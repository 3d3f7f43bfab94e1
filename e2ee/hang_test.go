//go:build goolm

package e2ee_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// to matches requests of a method to a path that holds a text.
func to(method, path string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == method && strings.Contains(r.URL.Path, path) }
}

// A key backup that never answers holds up neither writes nor Close for long.
func TestKeyBackupHangs(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	conf, proxy := proxied(t, bot.config(t, room))
	conf.Timeout = 6 * time.Second
	memory := matrix.New(conf, matrix.WithLogger(rig.Log(t)), e2ee.Enable())
	require.NoError(t, memory.Open(t.Context()))
	proxy.Inject(homeserver.Fault{Match: to("PUT", "/room_keys/keys"), Do: homeserver.BlackHole()})

	rig.Within(t, conf.Timeout, "Set", func() { require.NoError(t, memory.Set("tea", []byte(`"green"`))) })
	require.NotZero(t, proxy.Count(homeserver.Seen(to("PUT", "/room_keys/keys"))))
	// Who comes now has a new key made, while the first one still hangs.
	_, err := bot.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: register(t).UserID})
	require.NoError(t, err)
	first := bot.sessionOf(t, room, "tea")
	n := 0
	eventually(t, func() bool {
		n++
		rig.Within(t, conf.Timeout, "Set", func() { require.NoError(t, memory.Set("tea", []byte{byte('0' + n%10)})) })
		return bot.sessionOf(t, room, "tea") != first
	}, "the key stays the same when a member is invited")
	rig.Within(t, 40*time.Second, "Close", func() { require.NoError(t, memory.Close()) })
}

// While the homeserver takes no one-time keys, sync goes on; once it does, it gets
// them.
func TestOneTimeKeyUploadHangs(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	conf, proxy := proxied(t, bot.config(t, room))
	memory := open(t, conf)
	require.NoError(t, memory.Set("a", []byte(`1`)))
	remove := proxy.Inject(homeserver.Fault{Match: to("POST", "/keys/upload"), Do: homeserver.BlackHole()})
	uploads := func() int { return proxy.Count(homeserver.Seen(to("POST", "/keys/upload"))) }
	before := uploads()
	device := memory.Client().DeviceID
	bot.takeKeys(t, bot.UserID, device)
	n := 0
	eventually(t, func() bool {
		n++
		bot.put(t, room, fmt.Sprintf(`{"wakes sync":%d}`, n))
		return uploads() > before
	}, "no new one-time keys are published")
	bot.put(t, room, `{"new":1}`)
	rig.Eventually(30*time.Second)(t, func() bool { _, ok, err := memory.Get("new"); return ok && err == nil }, "sync stands still")

	remove()
	require.Eventually(t, func() bool {
		n++
		bot.put(t, room, fmt.Sprintf(`{"wakes sync":%d}`, n))
		key, found := bot.claim(t, bot.UserID, device)
		return found && !key.Fallback
	}, 100*time.Second, time.Second, "the one-time keys are not published again")
}

// sessionOf returns the session that the value of a key is encrypted with.
func (a account) sessionOf(t testing.TB, room id.RoomID, key string) id.SessionID {
	t.Helper()
	evt, err := a.GetEvent(t.Context(), room, a.pointers(t, room)[key])
	require.NoError(t, err)
	require.NoError(t, evt.Content.ParseRaw(evt.Type))
	return evt.Content.AsEncrypted().SessionID
}
