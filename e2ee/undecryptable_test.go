//go:build goolm

package e2ee_test

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// requireUndecryptable fails unless a value can't be read, and the error says so,
// where and why.
func requireUndecryptable(t testing.TB, memory *matrix.Memory, room id.RoomID, key string, eventID id.EventID, cause string) {
	t.Helper()
	_, ok, err := memory.Get(key)
	require.False(t, ok)
	require.ErrorIs(t, err, matrix.ErrUndecryptable)
	var failure *matrix.Error
	require.True(t, errors.As(err, &failure))
	require.Equal(t, room.String(), failure.Room)
	require.Equal(t, key, failure.Key)
	require.ErrorContains(t, err, eventID.String())
	require.ErrorContains(t, err, cause)
}

// JSON in the place of an encrypted event that is none says nothing of the value, and does no harm.
func TestAnswerThatIsNoEvent(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	conf, proxy := proxied(t, bot.config(t, room))
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, memory.Close())
	for _, body := range []string{"null", "{}", "[]", "17", `{"content":{}}`, "<html>"} {
		memory := open(t, conf) // which has read nothing yet
		remove := proxy.Inject(homeserver.Fault{Match: to("GET", "/event/"), Times: 1, Do: homeserver.Status(http.StatusOK, nil, body)})
		value, ok, err := memory.Get("tea")
		require.NoError(t, err, body)
		require.True(t, ok, body)
		require.Equal(t, `"green"`, string(value))
		remove()
		require.NoError(t, memory.Close())
	}
}

func TestEventThatIsNotTheValue(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room, elsewhere := bot.newRoom(t, other.account), bot.newRoom(t, other.account)
	raise(t, bot, room, other.UserID)
	conf := bot.config(t, room)
	memory := open(t, conf)
	require.NoError(t, memory.Set("good", []byte(`"kept"`)))
	good := bot.pointers(t, room)["good"]

	otherType := other.encrypt(t, room, event.Type{Type: "m.custom", Class: event.MessageEventType}, `{"key":1}`)
	otherKey := other.encrypt(t, room, valueType, `{"other":1}`)
	otherRoom := other.encrypt(t, elsewhere, valueType, `{"key":1}`)
	fine := other.encrypt(t, room, valueType, `{"key":"from another"}`)
	plain, err := other.SendMessageEvent(t.Context(), room, valueType, map[string]any{"key": 1})
	require.NoError(t, err)
	// The bot's own ciphertext, sent by somebody else.
	original, err := bot.GetEvent(t.Context(), room, good)
	require.NoError(t, err)
	stolen, err := other.SendMessageEvent(t.Context(), room, event.EventEncrypted, original.Content.VeryRaw)
	require.NoError(t, err)
	redacted := other.encrypt(t, room, valueType, `{"key":1}`)
	_, err = other.RedactEvent(t.Context(), room, redacted)
	require.NoError(t, err)

	notInRoom := "another room"
	if rig.Shared(t).Software() == homeserver.Synapse {
		notInRoom = "not there" // it does not give an event of another room
	}
	for _, test := range []struct {
		name, key string
		event     id.EventID
		cause     string
	}{
		{"another type", "key", otherType, "m.custom"},
		{"another key", "key", otherKey, "does not hold this key"},
		{"another room", "key", otherRoom, notInRoom},
		{"no such event", "key", "$0123456789012345678901234567890123456789012", "not there"},
		{"not encrypted", "key", plain.EventID, "not sent encrypted"},
		{"redacted", "key", redacted, "redacted"},
		{"another sender", "good", stolen.EventID, other.UserID.String()},
	} {
		t.Run(test.name, func(t *testing.T) {
			other.put(t, room, fmt.Sprintf(`{%q:{"encrypted_val":%q},"intact":{"encrypted_val":%q},"plain":1}`, test.key, test.event, good))
			eventually(t, func() bool {
				_, _, err := memory.Get(test.key)
				// The key may come a little later than what is encrypted with it.
				return err != nil && strings.Contains(err.Error(), test.event.String()) && strings.Contains(err.Error(), test.cause)
			}, "the memory does not see what was written, or says another cause than %q", test.cause)
			eventually(t, func() bool { keys, err := memory.Keys(); return err == nil && len(keys) == 3 }, "not all keys are there")
			requireUndecryptable(t, memory, room, test.key, test.event, test.cause)
			requireUndecryptable(t, memory, room, "intact", good, "does not hold this key")
			rig.Has(t, memory, "plain", `1`)

			// The other keys can be written, and keep it.
			require.NoError(t, memory.Set("plain", []byte(`2`)))
			requireUndecryptable(t, memory, room, test.key, test.event, test.cause)
			require.NoError(t, memory.Set(test.key, []byte(`"mine"`)))
			rig.Has(t, memory, test.key, `"mine"`)
		})
	}

	t.Run("no event ID", func(t *testing.T) {
		other.put(t, room, `{"key":{"encrypted_val":7}}`)
		eventually(t, func() bool { _, _, err := memory.Get("key"); return err != nil }, "the broken pointer passes for a value")
		_, ok, err := memory.Get("key")
		require.False(t, ok)
		require.ErrorContains(t, err, "event ID")
		_, err = memory.Delete("key")
		require.NoError(t, err)
	})
	t.Run("another's own", func(t *testing.T) {
		other.put(t, room, fmt.Sprintf(`{"key":{"encrypted_val":%q}}`, fine))
		eventually(t, func() bool {
			value, ok, err := memory.Get("key")
			return err == nil && ok && string(value) == `"from another"`
		}, "what another member has encrypted can't be read")
	})
}

// raise lets a member write the memory.
func raise(t testing.TB, owner account, room id.RoomID, user id.UserID) {
	t.Helper()
	var levels event.PowerLevelsEventContent
	require.NoError(t, owner.StateEvent(t.Context(), room, event.StatePowerLevels, "", &levels))
	levels.SetUserLevel(user, 100)
	_, err := owner.SendStateEvent(t.Context(), room, event.StatePowerLevels, "", &levels)
	require.NoError(t, err)
}

// A key that is missing is asked for from the account's other devices, and once it
// comes, the value is there without a restart.
func TestMissingKeyComesFromAnotherDevice(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	phone := newPeer(t, bot) // the account's own device, before the bot has one
	eventID := phone.encrypt(t, room, valueType, `{"tea":"green"}`)
	bot.put(t, room, fmt.Sprintf(`{"tea":{"encrypted_val":%q},"plain":1}`, eventID))

	conf := bot.config(t, room)
	conf, proxy := proxied(t, conf)
	memory := open(t, conf)
	proxy.Reset()
	requireUndecryptable(t, memory, room, "tea", eventID, "missing")
	requireUndecryptable(t, memory, room, "tea", eventID, "missing")
	require.NoError(t, memory.Set("plain", []byte(`2`)))
	fetched := proxy.Count(func(r homeserver.Request) bool {
		return r.Method == "GET" && filepath.Base(filepath.Dir(r.Path)) == "event"
	})
	require.Equal(t, 1, fetched, "each Get asks the homeserver")

	eventually(t, func() bool {
		phone.sync(t) // which answers the request
		value, ok, err := memory.Get("tea")
		return err == nil && ok && string(value) == `"green"`
	}, "the key did not come")
}

// Asking for a key that Close cuts short is nothing to warn of.
func TestCloseWhileAskingForAKey(t *testing.T) {
	for name, asks := range map[string]func(*http.Request) bool{
		"other devices": to("PUT", "/sendToDevice/m.room_key_request"),
		"key backup":    to("GET", "/room_keys/keys/"),
	} {
		t.Run(name, func(t *testing.T) {
			bot := register(t)
			room := bot.newRoom(t)
			eventID := newPeer(t, bot).encrypt(t, room, valueType, `{"tea":"green"}`)
			bot.put(t, room, fmt.Sprintf(`{"tea":{"encrypted_val":%q}}`, eventID))
			conf, proxy := proxied(t, bot.config(t, room))
			log, kept := rig.KeepLog()
			memory := matrix.New(conf, matrix.WithLogger(log), e2ee.Enable())
			require.NoError(t, memory.Open(t.Context()))
			before := strings.Count(kept.String(), "level=warning")
			proxy.Inject(homeserver.Fault{Match: asks, Do: homeserver.BlackHole()})
			read := make(chan error, 1)
			go func() { _, _, err := memory.Get("tea"); read <- err }()
			eventually(t, func() bool { return proxy.Count(homeserver.Seen(asks)) > 0 }, "the key is not asked for")
			require.NoError(t, memory.Close())
			require.Error(t, <-read)
			require.Equal(t, before, strings.Count(kept.String(), "level=warning"), kept.String())
		})
	}
}

// What could not be asked for counts as not asked: neither the other devices, nor the
// key backup, nor a sender's devices.
func TestMissingKeyIsAskedForAgain(t *testing.T) {
	trouble := homeserver.Status(http.StatusServiceUnavailable, nil, `{}`)
	t.Run("other devices", func(t *testing.T) {
		bot := register(t)
		room := bot.newRoom(t)
		phone := newPeer(t, bot)
		eventID := phone.encrypt(t, room, valueType, `{"tea":"green"}`)
		bot.put(t, room, fmt.Sprintf(`{"tea":{"encrypted_val":%q}}`, eventID))
		conf, proxy := proxied(t, bot.config(t, room))
		memory := open(t, conf)
		asks := to("PUT", "/sendToDevice/m.room_key_request")
		remove := proxy.Inject(homeserver.Fault{Match: asks, Do: trouble})
		requireUndecryptable(t, memory, room, "tea", eventID, "missing")
		eventually(t, func() bool { return proxy.Count(homeserver.Seen(asks)) > 0 }, "nobody is asked")
		remove()
		eventually(t, func() bool {
			phone.sync(t)
			value, ok, err := memory.Get("tea")
			return err == nil && ok && string(value) == `"green"`
		}, "the key did not come")
	})
	t.Run("key backup", func(t *testing.T) {
		bot := register(t)
		room := bot.newRoom(t)
		conf, proxy := proxied(t, bot.config(t, room))
		memory := open(t, conf)
		require.NoError(t, memory.Set("coffee", []byte(`"black"`)))
		// Another device writes, whose key comes to the first by the backup only.
		second, secondProxy := proxied(t, conf)
		secondProxy.Inject(homeserver.Fault{Match: to("PUT", "/sendToDevice/"), Do: homeserver.Status(http.StatusOK, nil, `{}`)})
		second.RecoveryKey = recoveryKey(t, conf.StorePath)
		second.StorePath = filepath.Join(t.TempDir(), "second")
		looks := to("GET", "/room_keys/keys/")
		remove := proxy.Inject(homeserver.Fault{Match: looks, Do: trouble})
		require.NoError(t, open(t, second).Set("tea", []byte(`"green"`)))
		eventually(t, func() bool { _, _, err := memory.Get("tea"); return err != nil }, "the key is there already")
		require.NotZero(t, proxy.Count(homeserver.Seen(looks)))
		remove()
		eventually(t, func() bool {
			value, ok, err := memory.Get("tea")
			return err == nil && ok && string(value) == `"green"`
		}, "the key does not come from the backup")
	})
	t.Run("a sender's devices", func(t *testing.T) {
		bot, other := register(t), register(t)
		room := bot.newRoom(t, other)
		memory := open(t, bot.config(t, room))
		for _, device := range []account{other, other.anotherDevice(t)} {
			peer := newPeer(t, device)
			eventID := peer.encrypt(t, room, valueType, fmt.Sprintf(`{%q:1}`, device.DeviceID))
			bot.put(t, room, fmt.Sprintf(`{%q:{"encrypted_val":%q}}`, device.DeviceID, eventID))
			eventually(t, func() bool {
				_, ok, err := memory.Get(device.DeviceID.String())
				return ok && err == nil
			}, "what the device wrote can't be read")
		}
	})
}
