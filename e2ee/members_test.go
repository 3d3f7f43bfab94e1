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
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// Who comes after a value was written can't read it, and who has gone can't read
// what is written after that.
func TestKeyChangesWithTheMembers(t *testing.T) {
	bot, early, late := register(t), newPeer(t, register(t)), newPeer(t, register(t))
	room := bot.newRoom(t, early.account)
	memory := open(t, bot.config(t, room))
	sessionOf := func(key string) id.SessionID { return bot.sessionOf(t, room, key) }
	require.NoError(t, memory.Set("one", []byte(`1`)))

	_, err := bot.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: late.UserID})
	require.NoError(t, err)
	_, err = late.JoinRoomByID(t.Context(), room)
	require.NoError(t, err)
	n := 0
	eventually(t, func() bool {
		n++
		require.NoError(t, memory.Set("two", fmt.Appendf(nil, "%d", n)))
		return sessionOf("two") != sessionOf("one")
	}, "the key stays the same when a member comes")
	late.decrypt(t, room, bot.pointers(t, room)["two"])
	_, err = late.tryDecrypt(t, room, bot.pointers(t, room)["one"])
	require.Error(t, err)

	_, err = early.LeaveRoom(t.Context(), room)
	require.NoError(t, err)
	two := sessionOf("two")
	eventually(t, func() bool {
		n++
		require.NoError(t, memory.Set("three", fmt.Appendf(nil, "%d", n)))
		return sessionOf("three") != two
	}, "the key stays the same when a member goes")
	early.sync(t)
	session, err := early.machine.CryptoStore.GetGroupSession(t.Context(), room, sessionOf("three"))
	require.NoError(t, err)
	require.Nil(t, session, "who has gone has the new key")
	late.decrypt(t, room, bot.pointers(t, room)["three"])
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
