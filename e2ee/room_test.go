//go:build goolm

package e2ee_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/memorytest"
)

func TestConformance(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			bot := register(t)
			conf := bot.config(t, "")
			conf.SingleStateKey = layout
			conf.Timeout = time.Minute
			rooms := make(map[string]id.RoomID)
			memorytest.Run(t, func(t *testing.T) joe.Memory {
				if _, ok := rooms[t.Name()]; !ok {
					rooms[t.Name()] = bot.newRoom(t)
				}
				conf := conf
				conf.Rooms = map[string]string{"main": rooms[t.Name()].String()}
				return open(t, conf)
			})
			for _, room := range rooms {
				bot.pointers(t, room) // none of it stands in the clear
			}
		})
	}
}

// What was written in an encrypted room is nowhere in the clear: not in the state,
// not in the timeline, not in what the homeserver is sent, as the key backup, nor in its
// files or the key store. The keys of the memory are.
func TestNothingIsFoundInTheClear(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	conf, proxy := proxied(t, bot.config(t, room))
	var sent rig.Buffer
	proxy.Inject(homeserver.Fault{Do: func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			fmt.Fprintf(&sent, "%s %s\n%s\n", r.Method, r.URL.RequestURI(), body)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		server.ServeHTTP(w, r)
	}})
	memory := open(t, conf)
	secret := "b3JhbmdlLXBla29l-nobody-else-writes-this"
	values := map[string]string{
		"text":         fmt.Sprintf("%q", secret),
		"bytes":        secret,
		"object":       fmt.Sprintf(`{"m.relates_to":{"event_id":%q,"rel_type":%q}}`, secret, secret),
		"m.relates_to": fmt.Sprintf(`{"event_id":%q,"key":%q,"rel_type":%q}`, secret, secret, secret),
		"m.mentions":   fmt.Sprintf(`{"user_ids":[%q]}`, secret),
	}
	for key, value := range values {
		require.NoError(t, memory.Set(key, []byte(value)))
	}
	for key, eventID := range bot.pointers(t, room) {
		rig.Has(t, memory, key, values[key])
		evt, err := bot.GetEvent(t.Context(), room, eventID)
		require.NoError(t, err)
		require.NotContains(t, string(evt.Content.VeryRaw), "m.relates_to")
		other.decrypt(t, room, eventID)
	}
	require.NoError(t, memory.Close())

	traces := [][]byte{[]byte(secret), []byte(base64.StdEncoding.EncodeToString([]byte(secret)))}
	for _, trace := range traces {
		require.NotContains(t, sent.String(), string(trace))
	}
	require.Contains(t, sent.String(), "/room_keys/keys", "the key backup is not seen")
	require.Contains(t, sent.String(), `"object":`, "the keys of the memory are not seen")
	for _, dir := range []string{rig.Shared(t).Dir(), conf.StorePath} {
		searched := false // a file that names the bot, so that a search finds something
		require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			content, err := os.ReadFile(path)
			searched = searched || bytes.Contains(content, []byte(bot.UserID))
			for _, trace := range traces {
				require.False(t, bytes.Contains(content, trace), "%s holds a value", path)
			}
			return err
		}))
		require.True(t, searched, dir)
	}
}

// writes returns how many events of each kind were sent.
func writes(proxy *homeserver.Proxy) (events, states int) {
	return proxy.Count(homeserver.Seen(homeserver.EventSend)), proxy.Count(homeserver.Seen(homeserver.StateWrite))
}

func TestRequests(t *testing.T) {
	bot := register(t)
	conf, proxy := proxied(t, bot.config(t, bot.newRoom(t)))
	memory := open(t, conf)
	require.NoError(t, memory.Set("shares the key", []byte(`1`)))

	others := func() int {
		return proxy.Count(func(r homeserver.Request) bool { return !homeserver.Seen(rig.OfSync)(r) })
	}
	proxy.Reset()
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.Equal(t, 2, others(), "an encrypted Set is two requests: %+v", proxy.Requests())

	proxy.Reset()
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	rig.Has(t, memory, "tea", `"green"`)
	require.Equal(t, 1, others(), "setting what is there is one question, and reading it none: %+v", proxy.Requests())

	proxy.Reset()
	var all sync.WaitGroup
	errs := make([]error, 200)
	for i := range errs {
		all.Go(func() { errs[i] = memory.Set(fmt.Sprint("key ", i), fmt.Appendf(nil, `"value %d"`, i)) })
	}
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	events, states := writes(proxy)
	t.Logf("200 concurrent Sets: %d encrypted events, %d state events", events, states)
	require.LessOrEqual(t, events, 12)
	require.LessOrEqual(t, states, 12)
	for i := range errs {
		rig.Has(t, memory, fmt.Sprint("key ", i), fmt.Sprintf(`"value %d"`, i))
	}
}

// If the state can't be written after the encrypted event was sent, Set fails and
// what was there before stays.
func TestHomeserverFailsBetweenEventAndState(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	conf, proxy := proxied(t, bot.config(t, room))
	conf.Timeout = 15 * time.Second
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	remove := proxy.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Status(http.StatusServiceUnavailable, nil, `{}`)})
	require.Error(t, memory.Set("tea", []byte(`"black"`)))
	rig.Has(t, memory, "tea", `"green"`)
	remove()
	require.NoError(t, memory.Set("coffee", []byte(`"black"`)))
	rig.Has(t, memory, "tea", `"green"`)

	// What is certainly not pointed at does not stay.
	proxy.Reset()
	remove = proxy.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: rig.Forbidden})
	require.ErrorIs(t, memory.Set("tea", []byte(`"black"`)), matrix.ErrForbidden)
	remove()
	require.NoError(t, memory.Close())
	require.Equal(t, 1, proxy.Count(func(r homeserver.Request) bool { return strings.Contains(r.Path, "/redact/") }))

	memory = open(t, conf)
	rig.Has(t, memory, "tea", `"green"`)
	rig.Has(t, memory, "coffee", `"black"`)
}

func TestDeletedValuesAreRedacted(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	raise(t, bot, room, other.UserID)
	conf := bot.config(t, room)
	memory := open(t, conf)

	require.NoError(t, memory.Set("deleted", []byte(`1`)))
	require.NoError(t, memory.Set("overwritten", []byte(`2`)))
	require.NoError(t, memory.Set("kept", []byte(`3`)))
	before := bot.pointers(t, room)
	_, err := memory.Delete("deleted")
	require.NoError(t, err)
	require.NoError(t, memory.Set("overwritten", []byte(`4`)))
	theirs := other.encrypt(t, room, valueType, `{"theirs":5}`)
	after := bot.pointers(t, room)
	other.put(t, room, fmt.Sprintf(`{"kept":{"encrypted_val":%q},"overwritten":{"encrypted_val":%q},"theirs":{"encrypted_val":%q}}`,
		after["kept"], after["overwritten"], theirs))
	eventually(t, func() bool { _, ok, err := memory.Get("theirs"); return ok && err == nil }, "what another wrote can't be read")
	_, err = memory.Delete("theirs")
	require.NoError(t, err)
	require.NoError(t, memory.Close()) // waits for the redactions

	bot.requireRedacted(t, room, before["deleted"], true)
	bot.requireRedacted(t, room, before["overwritten"], false) // another writer may bring its pointer back
	bot.requireRedacted(t, room, after["overwritten"], false)
	bot.requireRedacted(t, room, after["kept"], false)
	bot.requireRedacted(t, room, theirs, false) // only the bot's own events are its to redact
}

// requireRedacted fails unless an event is redacted, or is not. The homeserver may
// not know the event for a moment after its redaction.
func (a account) requireRedacted(t testing.TB, room id.RoomID, eventID id.EventID, want bool) {
	t.Helper()
	eventually(t, func() bool {
		evt, err := a.GetEvent(t.Context(), room, eventID)
		return err == nil && want == (evt.Unsigned.RedactedBecause != nil)
	}, "redacted or not, event %s is not as it should be", eventID)
}

// An event that several keys point at stays until the last of them is gone.
func TestSharedEventIsRedactedWithItsLastKey(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	conf := bot.config(t, room)
	memory := open(t, conf)
	require.NoError(t, memory.Set("first", []byte(`0`)))

	var all sync.WaitGroup
	errs := make([]error, 50)
	for i := range errs {
		all.Go(func() { errs[i] = memory.Set(fmt.Sprint(i), []byte(`1`)) })
	}
	all.Wait()
	shared := make(map[id.EventID][]string)
	for key, eventID := range bot.pointers(t, room) {
		shared[eventID] = append(shared[eventID], key)
	}
	for _, err := range errs {
		require.NoError(t, err)
	}
	for eventID, keys := range shared {
		if len(keys) < 2 {
			continue
		}
		handle, last := memory.InRoom("main"), keys[0]
		n, err := handle.DeleteAll(keys[1:]...)
		require.NoError(t, err)
		require.Equal(t, len(keys)-1, n)
		require.NoError(t, memory.Close()) // waits for redactions
		bot.requireRedacted(t, room, eventID, false)

		memory = open(t, conf)
		rig.Has(t, memory, last, `1`)
		_, err = memory.Delete(last)
		require.NoError(t, err)
		require.NoError(t, memory.Close())
		bot.requireRedacted(t, room, eventID, true)
		return
	}
	t.Fatal("of fifty values that were set at once, no two share an event")
}

func TestRoomBecomesEncryptedLater(t *testing.T) {
	bot := register(t)
	made, err := bot.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "private_chat"})
	require.NoError(t, err)
	room := made.RoomID
	memory := open(t, bot.config(t, room))
	require.NoError(t, memory.Set("old", []byte(`"clear"`)))
	_, err = bot.SendStateEvent(t.Context(), room, event.StateEncryption, "", &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1})
	require.NoError(t, err)
	standing := func() map[string]json.RawMessage {
		var state map[string]json.RawMessage
		require.NoError(t, bot.StateEvent(t.Context(), room, rig.MemoryType, "", &state))
		return state
	}
	n := 0
	eventually(t, func() bool {
		n++
		require.NoError(t, memory.Set("new", fmt.Appendf(nil, "%d", n)))
		return bytes.Contains(standing()["new"], []byte("encrypted_val"))
	}, "values still go out in the clear")
	require.JSONEq(t, `"clear"`, string(standing()["old"]))
	rig.Has(t, memory, "old", `"clear"`)
	require.NoError(t, memory.Set("old", []byte(`"clear"`)), "the same value, written again, is encrypted")
	require.Contains(t, string(standing()["old"]), "encrypted_val")
	rig.Has(t, memory, "old", `"clear"`)
	rig.Has(t, memory, "new", fmt.Sprint(n))
}
