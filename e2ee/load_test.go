//go:build goolm

package e2ee_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/bridge"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/internal/session"
)

// A behind is a bot that connects in the background: its encryption, and its connection.
type behind struct {
	bridge.Crypto
	*session.Session
	log  *rig.Buffer
	stop func() error // may be called twice
}

// startBehind starts a bot as if it had a journal.
func startBehind(t testing.TB, conf matrix.Config) behind {
	t.Helper()
	log, kept := rig.KeepLog()
	b := behind{Crypto: e2ee.New(), Session: session.New(session.NewClient(), false), log: kept}
	device, err := b.Crypto.Open(bridge.CryptoOptions{
		UserID: conf.UserID, Password: conf.Password, AccessToken: conf.AccessToken, DeviceID: conf.DeviceID,
		StorePath: conf.StorePath, StoreKey: conf.StoreKey, RecoveryKey: conf.RecoveryKey,
		Timeout: conf.Timeout, Session: b.Session, Log: log,
	})
	require.NoError(t, err)
	require.NoError(t, b.Load(id.UserID(conf.UserID), false))
	require.NoError(t, b.OpenBehind(session.Options{
		Homeserver: conf.Homeserver, UserID: conf.UserID, Password: conf.Password, AccessToken: conf.AccessToken, DeviceID: device.String(),
		Types: []event.Type{rig.MemoryType, event.StateEncryption}, Recent: rig.MemoryType, Timeout: conf.Timeout, Log: log,
		Update: func(session.Update) {}, Anew: func() {}, LoggedIn: b.Start, LoggedInAgain: b.LoggedInAgain,
	}, session.Known{User: id.UserID(conf.UserID)}))
	b.stop = sync.OnceValue(func() error {
		b.Session.Close()
		err := b.Crypto.Close()
		b.Disconnect()
		return err
	})
	t.Cleanup(func() {
		require.NoError(t, b.stop())
		if t.Failed() {
			t.Log(kept.String())
		}
	})
	return b
}

// read decrypts an event, and fails the test if that is not what it says.
func (b behind) read(t testing.TB, evt event.Event, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	_, content, err := b.Decrypt(ctx, &evt)
	if assert.NoError(t, err) {
		assert.JSONEq(t, want, string(content))
	}
}

// events returns the encrypted events that the state refers to, by key.
func (a account) events(t testing.TB, room id.RoomID) map[string]event.Event {
	t.Helper()
	events := make(map[string]event.Event)
	for key, pointer := range a.pointers(t, room) {
		evt, err := a.GetEvent(t.Context(), room, pointer)
		require.NoError(t, err)
		evt.RoomID = room
		events[key] = *evt
	}
	return events
}

// sealed makes an encrypted room, in which a bot and a friend of its write, and returns the bot's
// settings and what stands there.
func sealed(t testing.TB, bot account, friend account) (conf matrix.Config, theirs *matrix.Memory, room id.RoomID) {
	t.Helper()
	room = bot.newRoom(t, friend)
	raise(t, bot, room, friend.UserID)
	conf = bot.config(t, room)
	conf.Timeout = 5 * time.Second
	memory, theirs := open(t, conf), open(t, friend.config(t, room))
	require.NoError(t, memory.Set("ours", []byte(`1`)))
	eventually(t, func() bool { return has(theirs, "ours") }, "what the bot writes")
	require.NoError(t, theirs.Set("theirs", []byte(`2`)))
	eventually(t, func() bool { return has(memory, "theirs") }, "what the friend writes")
	require.NoError(t, memory.Close())
	return conf, theirs, room
}

// While the homeserver is away, what the bot has keys of is decrypted; the rest waits, and nothing
// goes out, in the clear least of all. Once the homeserver is there, all is as ever.
func TestDecryptsWithoutANetwork(t *testing.T) {
	rig.NoLeaks(t)
	bot, friend := register(t), register(t)
	conf, theirs, room := sealed(t, bot, friend)
	clear := bot.NewRoom(t)
	events := bot.events(t, room)
	conf, front := proxied(t, conf)
	back := front.Inject(homeserver.Fault{Do: homeserver.BlackHole()})
	_, err := bot.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: register(t).UserID})
	require.NoError(t, err)
	friend.requireNewKey(t, theirs, room, "later", friend.sessionOf(t, room, "theirs")) // which is sent to the bot's device
	require.NoError(t, theirs.Set("later", []byte(`3`)))
	later := bot.events(t, room)["later"]

	b := startBehind(t, conf)
	rig.Within(t, time.Second, "decrypting", func() {
		b.read(t, events["ours"], `{"ours":1}`)
		b.read(t, events["theirs"], `{"theirs":2}`)
	})
	for where, want := range map[id.RoomID]bool{room: true, clear: false} {
		encrypted, err := b.Encrypted(where, false)
		require.NoError(t, err)
		require.Equal(t, want, encrypted)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	missing := later
	_, _, err = b.Decrypt(ctx, &missing)
	require.ErrorContains(t, err, "is missing here, and the homeserver could not be reached since")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = b.Encrypt(ctx, room, valueType, []byte(`{}`))
	require.ErrorContains(t, err, "the homeserver could not be reached since")
	_, err = b.Client().SendMessageEvent(ctx, room, event.EventMessage, &event.MessageEventContent{MsgType: event.MsgText, Body: "secret"})
	require.ErrorContains(t, err, "the homeserver could not be reached since", "whoever sends with the client encrypts")
	require.Zero(t, front.Count(homeserver.Seen(func(r *http.Request) bool { return r.Method != http.MethodPost || !to("POST", "/login")(r) })),
		"it makes no request but to log in")

	back()
	late := later
	b.read(t, late, `{"later":3}`)
	ciphertext, err := b.Encrypt(t.Context(), room, valueType, []byte(`{"new":4}`))
	require.NoError(t, err)
	sent, err := b.Send(t.Context(), nil, room, event.EventEncrypted, ciphertext)
	require.NoError(t, err)
	peer, err := bot.GetEvent(t.Context(), room, sent)
	require.NoError(t, err)
	peer.RoomID = room
	_, opened, err := decryptBy(t, theirs, peer)
	require.NoError(t, err)
	require.JSONEq(t, `{"new":4}`, opened)
	require.NoError(t, b.stop())
	require.NoError(t, theirs.Close())
}

// decryptBy decrypts an event by a memory's client, when its key has come.
func decryptBy(t testing.TB, memory *matrix.Memory, evt *event.Event) (id.EventID, string, error) {
	t.Helper()
	require.NoError(t, evt.Content.ParseRaw(evt.Type))
	content := evt.Content.AsEncrypted()
	require.True(t, memory.Client().Crypto.WaitForSession(t.Context(), evt.RoomID, content.SenderKey, content.SessionID, bound), "the key")
	decrypted, err := memory.Client().Crypto.Decrypt(t.Context(), evt)
	if err != nil {
		return "", "", err
	}
	return decrypted.ID, string(decrypted.Content.VeryRaw), nil
}

// Decryption goes on while the bot connects, at whichever step that is, and with a key backup that
// is restored meanwhile.
func TestDecryptsWhileConnecting(t *testing.T) {
	rig.NoLeaks(t)
	bot, friend := register(t), register(t)
	conf, theirs, room := sealed(t, bot, friend)
	require.NoError(t, theirs.Close())
	events := bot.events(t, room)
	db, err := sql.Open("sqlite", filepath.Join(conf.StorePath, "keys.db"))
	require.NoError(t, err)
	_, err = db.Exec(`UPDATE crypto_account SET key_backup_version = 'none'`)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	conf, front := proxied(t, conf)
	back := front.Inject(homeserver.Fault{Do: homeserver.ResetBefore()})
	restored := to("GET", "/room_keys/keys")

	b := startBehind(t, conf)
	var all sync.WaitGroup
	var rounds atomic.Int32
	ctx, cancel := context.WithCancel(t.Context())
	for key, want := range map[string]string{"ours": `{"ours":1}`, "theirs": `{"theirs":2}`} {
		all.Go(func() {
			for ctx.Err() == nil {
				b.read(t, events[key], want)
				rounds.Add(1)
			}
		})
	}
	eventually(t, func() bool { return rounds.Load() > 20 }, "it decrypts")
	back()
	rig.Within(t, 10*time.Second, "connecting", func() { require.NoError(t, b.Reach(t.Context())) })
	before := rounds.Load()
	eventually(t, func() bool { return rounds.Load() > before+20 }, "it goes on to decrypt")
	cancel()
	all.Wait()
	require.Equal(t, 1, front.Count(homeserver.Seen(restored)))
	require.NoError(t, b.stop())
}

// Wherever Start is, the bot ends at once, and the next start goes on. So it does if what stood in
// the way passes.
func TestStartIsInterruptedBehind(t *testing.T) {
	bot, friend := register(t), register(t)
	conf, theirs, room := sealed(t, bot, friend)
	require.NoError(t, theirs.Close())
	events := bot.events(t, room)
	for n, step := range []func(*http.Request) bool{
		to("POST", "/login"), to("POST", "/keys/query"), to("GET", "/account_data"), to("GET", "/room_keys/version"), to("GET", "/sync"),
	} {
		for name, outage := range map[string]homeserver.Action{"black hole": homeserver.BlackHole(), "reset": homeserver.ResetBefore()} {
			t.Run(fmt.Sprint(n, " ", name), func(t *testing.T) {
				rig.NoLeaks(t)
				conf, front := proxied(t, conf)
				conf.Timeout = 2 * time.Second
				back := front.Inject(homeserver.Fault{Match: step, Do: outage})
				b := startBehind(t, conf)
				eventually(t, func() bool { return front.Count(homeserver.Seen(step)) > 0 }, "it stands there")
				rig.Within(t, 3*time.Second, "the end", func() { require.NoError(t, b.stop()) })

				b = startBehind(t, conf)
				eventually(t, func() bool { return front.Count(homeserver.Seen(step)) > 5 }, "it tries again")
				require.False(t, b.IsConnected())
				back()
				require.NoError(t, b.Reach(t.Context()))
				b.read(t, events["ours"], `{"ours":1}`)
				_, err := b.Encrypt(t.Context(), room, valueType, []byte(`{}`))
				require.NoError(t, err)
				require.NoError(t, b.stop())
			})
		}
	}
	// One device, and no more, has come of all that.
	response, err := bot.GetDevicesInfo(t.Context())
	require.NoError(t, err)
	require.Len(t, response.Devices, 2)
}

// A store that was in no use knows nothing: what could go out in the clear is an error, and the
// rest waits.
func TestNewStoreWithoutANetwork(t *testing.T) {
	rig.NoLeaks(t)
	bot := register(t)
	room := bot.newRoom(t)
	conf, front := proxied(t, bot.config(t, room))
	conf.Timeout = 5 * time.Second
	back := front.Inject(homeserver.Fault{Do: homeserver.ResetBefore()})
	b := startBehind(t, conf)
	for _, now := range []bool{true, false} {
		encrypted, err := b.Encrypted(room, now)
		require.ErrorContains(t, err, "known once the bot is connected")
		require.True(t, encrypted)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	evt := event.Event{Type: event.EventEncrypted, RoomID: room, Content: event.Content{VeryRaw: []byte(`{"algorithm":"m.megolm.v1.aes-sha2","session_id":"x","ciphertext":"x"}`)}}
	_, _, err := b.Decrypt(ctx, &evt)
	require.ErrorContains(t, err, "could not be reached since")
	_, err = b.Encrypt(ctx, room, valueType, []byte(`{}`))
	require.ErrorContains(t, err, "could not be reached since")
	require.False(t, b.Client().Crypto.WaitForSession(ctx, room, "", "x", time.Second))
	_, err = b.Client().SendMessageEvent(ctx, room, event.EventMessage, &event.MessageEventContent{MsgType: event.MsgText, Body: "secret"})
	require.ErrorContains(t, err, "known once the bot is connected")

	back()
	require.NoError(t, b.Reach(t.Context()))
	_, err = b.Encrypt(t.Context(), room, valueType, []byte(`{}`))
	require.NoError(t, err)
	encrypted, err := b.Encrypted(room, true)
	require.NoError(t, err)
	require.True(t, encrypted)
	require.NoError(t, b.stop())
}

// The keys of another account are not for this one.
func TestLoadsTheAccountsKeysOnly(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	require.NoError(t, open(t, conf).Close())
	c := e2ee.New()
	_, err := c.Open(bridge.CryptoOptions{
		UserID: conf.UserID, Password: conf.Password, StorePath: conf.StorePath, StoreKey: conf.StoreKey,
		Timeout: conf.Timeout, Session: session.New(session.NewClient(), false), Log: rig.Log(t),
	})
	require.NoError(t, err)
	require.ErrorContains(t, c.Load("@other:localhost", false), "has the keys of the account "+conf.UserID)
	require.NoError(t, c.Close())
}
