//go:build goolm

package e2ee_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// requireNewKey writes values under a key of the memory until one goes out under another
// session than before, as it does once sync has told of a change. It does not take so many
// that the session is used up.
func (a account) requireNewKey(t testing.TB, memory *matrix.Memory, room id.RoomID, key string, before id.SessionID) {
	t.Helper()
	n := 0
	eventually(t, func() bool {
		n++
		require.Less(t, n, 80, "the session stays the same when a member comes or goes")
		require.NoError(t, memory.Set(key, fmt.Append(nil, n)))
		return a.sessionOf(t, room, key) != before
	}, "the session stays the same when a member comes or goes")
}

// Who is invited gets the key. Who was not yet when a value was written can't read it, and
// who has gone can't read what is written after that, but still what was written before.
func TestKeyChangesWithTheMembers(t *testing.T) {
	bot, early, late := register(t), newPeer(t, register(t)), newPeer(t, register(t))
	room := bot.newRoom(t, early.account)
	memory := open(t, bot.config(t, room))
	require.NoError(t, memory.Set("one", []byte(`1`)))

	_, err := bot.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: late.UserID})
	require.NoError(t, err)
	bot.requireNewKey(t, memory, room, "two", bot.sessionOf(t, room, "one"))
	_, err = late.JoinRoomByID(t.Context(), room)
	require.NoError(t, err)
	late.decrypt(t, room, bot.pointers(t, room)["two"])
	one := late.pointers(t, room)["one"]
	require.NotEmpty(t, one, "who comes later sees the keys of the memory")
	late.sync(t)
	early.decrypt(t, room, one)
	session, err := late.machine.CryptoStore.GetGroupSession(t.Context(), room, bot.sessionOf(t, room, "one"))
	require.NoError(t, err)
	require.Nil(t, session, "who comes later has the earlier key")

	kept, err := early.GetEvent(t.Context(), room, one)
	require.NoError(t, err)
	kept.RoomID = room
	require.NoError(t, kept.Content.ParseRaw(kept.Type))
	_, err = early.LeaveRoom(t.Context(), room)
	require.NoError(t, err)
	bot.requireNewKey(t, memory, room, "three", bot.sessionOf(t, room, "two"))
	early.sync(t)
	session, err = early.machine.CryptoStore.GetGroupSession(t.Context(), room, bot.sessionOf(t, room, "three"))
	require.NoError(t, err)
	require.Nil(t, session, "who has gone has the new key")
	_, err = early.machine.DecryptMegolmEvent(t.Context(), kept)
	require.NoError(t, err, "who has gone can't read what was written before")
	state, err := early.State(t.Context(), room)
	require.NoError(t, err)
	require.Contains(t, string(state[rig.MemoryType][""].Content.VeryRaw), `"two"`, "who has gone sees the keys of the memory as they were")
	require.NotContains(t, string(state[rig.MemoryType][""].Content.VeryRaw), `"three"`)
	late.decrypt(t, room, bot.pointers(t, room)["three"])
}

// Who leaves with an event that is malformed, as anybody may make one, gets no new key either.
func TestMemberGoesWithAMalformedEvent(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	memory := open(t, bot.config(t, room))
	require.NoError(t, memory.Set("one", []byte(`1`)))
	before := bot.sessionOf(t, room, "one")
	_, err := other.SendStateEvent(t.Context(), room, event.StateMember, other.UserID.String(),
		map[string]any{"membership": "leave", "is_direct": "x"})
	require.NoError(t, err)
	bot.requireNewKey(t, memory, room, "two", before)
}

// A member's new device, and one that came while the bot was down, get the key.
func TestNewDeviceGetsTheNextKey(t *testing.T) {
	bot, other := register(t), register(t)
	room := bot.newRoom(t, other)
	conf := bot.config(t, room)
	memory := open(t, conf)
	require.NoError(t, memory.Set("one", []byte(`1`)))
	require.NoError(t, memory.Close())

	laptop := newPeer(t, other)
	memory = open(t, conf)
	require.NoError(t, memory.Set("two", []byte(`2`)))
	laptop.decrypt(t, room, bot.pointers(t, room)["two"])

	phone := newPeer(t, other.anotherDevice(t))
	n := 0
	eventually(t, func() bool {
		n++
		require.NoError(t, memory.Set("three", fmt.Appendf(nil, "%d", n)))
		_, err := phone.tryDecrypt(t, room, bot.pointers(t, room)["three"])
		return err == nil
	}, "a new device does not get the key")
}

// Of a device that came while sync failed nobody tells a sync that begins anew; it gets the
// next key all the same.
func TestDeviceThatComesBeforeSyncBeginsAnew(t *testing.T) {
	bot, other := register(t), register(t)
	laptop := newPeer(t, other)
	room := bot.newRoom(t, laptop.account)
	conf, proxy := proxied(t, bot.config(t, room))
	memory := open(t, conf)
	require.NoError(t, memory.Set("one", []byte(`1`)))
	laptop.decrypt(t, room, bot.pointers(t, room)["one"])

	mend := proxy.Inject(homeserver.Fault{Match: homeserver.Sync, Do: homeserver.Status(502, nil, "")})
	require.NoError(t, memory.Set("ends the sync that is under way", []byte(`1`)))
	eventually(t, func() bool {
		return proxy.Count(func(r homeserver.Request) bool { return r.Status == 502 }) > 0
	}, "sync does not fail")
	phone := newPeer(t, other.anotherDevice(t))
	var anew atomic.Bool
	proxy.Inject(homeserver.Fault{
		Match: func(r *http.Request) bool {
			anew.CompareAndSwap(false, homeserver.Sync(r) && !rig.FollowUp(r))
			return rig.FollowUp(r) && !anew.Load()
		},
		Do: homeserver.Status(400, nil, `{"errcode":"M_UNKNOWN_POS","error":"Unknown position"}`),
	})
	mend()
	eventually(t, anew.Load, "sync does not begin anew")
	n := 0
	eventually(t, func() bool {
		n++
		require.NoError(t, memory.Set("two", fmt.Appendf(nil, "%d", n)))
		_, err := phone.tryDecrypt(t, room, bot.pointers(t, room)["two"])
		return err == nil
	}, "the device does not get the key")
}

// A member's device that comes while the key is being shared gets the key as well.
func TestDeviceThatComesWhileTheKeyIsShared(t *testing.T) {
	bot, other := register(t), register(t)
	laptop := newPeer(t, other)
	room := bot.newRoom(t, laptop.account)
	conf, proxy := proxied(t, bot.config(t, room))
	memory := open(t, conf)
	for _, request := range []struct{ name, method, path string }{
		{"the key is sent", "PUT", "/sendToDevice/m.room.encrypted/"},
		{"devices are asked for", "POST", "/keys/query"},
	} {
		t.Run(request.name, func(t *testing.T) {
			// A device that comes makes the bot share a new key, and ask for devices.
			newPeer(t, other.anotherDevice(t))
			reached, release := make(chan struct{}), make(chan struct{})
			proxy.Inject(homeserver.Fault{Match: to(request.method, request.path), Times: 1, Do: homeserver.PauseAfter(reached, release)})
			n, done := 0, make(chan struct{})
			set := func() { n++; require.NoError(t, memory.Set("one", fmt.Appendf(nil, "%d", n))) }
			go func() {
				defer close(done)
				for {
					select {
					case <-release:
						return
					default:
						set()
					}
				}
			}()
			<-reached
			phone := newPeer(t, other.anotherDevice(t))
			for range 2 { // what comes after it, so that the bot has most likely heard of it
				before := proxy.Count(homeserver.Seen(homeserver.Sync))
				bot.put(t, room, fmt.Sprintf(`{"wakes":{"encrypted_val":%q}}`, rand.Text()))
				eventually(t, func() bool { return proxy.Count(homeserver.Seen(homeserver.Sync)) > before }, "no sync")
			}
			close(release)
			<-done
			eventually(t, func() bool {
				set()
				_, err := phone.tryDecrypt(t, room, bot.pointers(t, room)["one"])
				return err == nil
			}, "the device does not get the key")
		})
	}
}
