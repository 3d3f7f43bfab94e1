//go:build goolm

package e2ee_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/journal"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// delivering is how long a memory may take until it has delivered what it can, once the
// homeserver is back.
const delivering = 90 * time.Second

var delivers = rig.Eventually(delivering)

// journalled returns the settings of a bot with a journal of its own in a room, which goes by
// way of a proxy.
func (a account) journalled(t testing.TB, room id.RoomID) (matrix.Config, *homeserver.Proxy) {
	t.Helper()
	conf, front := proxied(t, a.config(t, room))
	conf.Journal = rig.Journal(t)
	return conf, front
}

// offline lets no request come through, until what it returns is called.
func offline(front *homeserver.Proxy) (online func()) {
	return front.Inject(homeserver.Fault{Do: homeserver.Page(502)})
}

// traces are the forms in which a secret text may be found in a file.
func traces(secret string) (all [][]byte) {
	quoted, _ := json.Marshal(secret)
	all = [][]byte{[]byte(secret), quoted[1 : len(quoted)-1], []byte(hex.EncodeToString([]byte(secret))), []byte(strings.ToUpper(hex.EncodeToString([]byte(secret))))}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 { // bytes of something else, in its first group of three
			encoded := encoding.EncodeToString(append(make([]byte, before), secret...))
			all = append(all, []byte(encoded[4:len(encoded)-4]))
		}
	}
	return all
}

// notFound checks that a secret stands in no file of a folder, in none of its forms, and that
// something else does.
func notFound(t testing.TB, dir, secret, something string) {
	t.Helper()
	searched := false
	for path, content := range contents(t, dir) {
		searched = searched || bytes.Contains(content, []byte(something))
		for _, trace := range traces(secret) {
			require.False(t, bytes.Contains(content, trace), "%s holds a value, as %q", path, trace)
		}
	}
	require.True(t, searched, "nothing is found in %s", dir)
}

// That no trace is found says something, as each form of a text is one.
func TestTraces(t *testing.T) {
	const secret = `tea is "green" & <hot>, says the bot`
	quoted, err := json.Marshal(map[string]string{"x": secret})
	require.NoError(t, err)
	for name, content := range map[string][]byte{
		"plain": []byte("a " + secret), "JSON": quoted, "hex": []byte(hex.EncodeToString([]byte(secret))),
		"base64": []byte(base64.StdEncoding.EncodeToString(append([]byte("ab"), secret+"c"...))),
		"URL":    []byte(base64.URLEncoding.EncodeToString([]byte("abcd" + secret))),
	} {
		found := false
		for _, trace := range traces(secret) {
			found = found || bytes.Contains(content, trace)
		}
		require.True(t, found, name)
	}
}

// With a store_key the values of an encrypted room are the journal's like any others: Set
// needs no connection, and Get neither, over a restart too, of what was pending and of what
// was delivered. None of them stands in the file in the clear, whether it is pending or not, and
// no key's name.
func TestJournalSealsValues(t *testing.T) {
	const pendingSecret, deliveredSecret, gone = "b3JhbmdlLXBla29l-pending \"é\"", "b3JhbmdlLXBla29l-delivered \"é\"", "b3JhbmdlLXBla29l-replaced \"é\""
	const pending = "a-name-that-nobody-else-gives"
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			bot, other := register(t), newPeer(t, register(t))
			room := bot.newRoom(t, other.account)
			conf, front := bot.journalled(t, room)
			conf.SingleStateKey = layout
			quoted := func(secret string) string { return fmt.Sprintf("%q", secret) }
			search := func() {
				t.Helper()
				for _, secret := range []string{pendingSecret, deliveredSecret, gone, pending} {
					notFound(t, filepath.Dir(conf.Journal), secret, bot.UserID.String())
				}
			}

			memory := open(t, conf)
			require.NoError(t, memory.Set("delivered", []byte(quoted(gone))))
			search()
			require.NoError(t, memory.Set("delivered", []byte(quoted(deliveredSecret))))
			require.NoError(t, memory.Set("deleted", []byte(quoted(gone))))
			rig.Flush(t, memory, delivering)
			rig.Has(t, memory, "delivered", quoted(deliveredSecret))
			search()
			require.NoError(t, memory.Close())
			search()

			online := offline(front)
			want := map[string]string{"delivered": quoted(deliveredSecret), pending: quoted(pendingSecret), "bytes": pendingSecret}
			for start := range 2 {
				rig.Within(t, bound, "a start without a connection, and what it does", func() {
					memory = open(t, conf)
					if start == 0 {
						require.NoError(t, memory.Set(pending, []byte(quoted(gone))))
						require.NoError(t, memory.Set(pending, []byte(quoted(pendingSecret))))
						require.NoError(t, memory.Set("bytes", []byte(pendingSecret)))
						was, err := memory.Delete("deleted")
						require.NoError(t, err)
						require.True(t, was)
					}
					require.Equal(t, 3, memory.Pending().Changes)
					require.Equal(t, want, rig.Entries(t, memory))
				})
				search()
				require.NoError(t, memory.Close())
				search()
			}
			online()
			memory = open(t, conf)
			rig.Flush(t, memory, delivering)
			require.Equal(t, want, rig.Entries(t, memory))
			pointers := bot.pointers(t, room)
			require.Len(t, pointers, len(want))
			evt := other.decrypt(t, room, pointers[pending])
			var content map[string]json.RawMessage
			require.NoError(t, json.Unmarshal(evt.Content.VeryRaw, &content))
			require.JSONEq(t, quoted(pendingSecret), string(content[pending]))
			search()
		})
	}
}

// Without a store_key nothing can be sealed, so that such a Set is written through: it is in
// the room when it returns, and fails without a connection. The log says so once. Other rooms'
// changes are the journal's.
func TestJournalWithoutAStoreKey(t *testing.T) {
	const secret = "b3JhbmdlLXBla29l-nobody-else-writes-this"
	bot := register(t)
	room, plain := bot.newRoom(t), bot.NewRoom(t)
	conf, front := bot.journalled(t, room)
	conf.StoreKey, conf.Timeout = "", 5*time.Second
	conf.Rooms["plain"] = plain.String()
	log, kept := rig.KeepLog()
	memory := rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable())
	for _, key := range []string{"tea", "coffee"} {
		require.NoError(t, memory.Set(key, fmt.Appendf(nil, "%q", secret)))
		require.Contains(t, bot.pointers(t, room), key, "when Set has returned")
		require.Equal(t, matrix.Pending{}, memory.Pending())
	}
	require.NoError(t, memory.InRoom("plain").Set("tea", 1))
	rig.Flush(t, memory, delivering)

	online := offline(front)
	var failure *matrix.Error
	require.ErrorAs(t, memory.Set("milk", fmt.Appendf(nil, "%q", secret)), &failure)
	require.NoError(t, memory.InRoom("plain").Set("tea", 2))
	require.Equal(t, 1, memory.Pending().Changes)
	online()
	rig.Flush(t, memory, delivering)
	require.Equal(t, map[string]string{"tea": `2`}, bot.Entries(t, plain))
	require.Len(t, append(kept.Lines("level=warning", "store_key"), kept.Lines("level=error", "store_key")...), 1, kept)
	require.NotContains(t, kept.String(), secret)
	require.NoError(t, memory.Close())
	notFound(t, filepath.Dir(conf.Journal), secret, room.String())
}

// A room becomes encrypted while changes are pending in it. Not one of them goes out in the
// clear, neither those that were attempted before nor those that were not.
func TestRoomBecomesEncryptedWhileChangesArePending(t *testing.T) {
	const secret = "b3JhbmdlLXBla29l-nobody-else-writes-this"
	for name, test := range map[string]struct {
		attempted bool
		storeKey  string
	}{
		"before it is online":      {false, "a passphrase"},
		"after an attempt":         {true, "a passphrase"},
		"where nothing is sealed":  {false, ""},
		"attempted and not sealed": {true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			attempted := test.attempted
			bot, other := register(t), newPeer(t, register(t))
			room := bot.NewRoom(t, other.account)
			conf, front := bot.journalled(t, room)
			conf.StoreKey = test.storeKey
			memory := open(t, conf)
			require.NoError(t, memory.Set("before", []byte(`1`)))
			rig.Flush(t, memory, delivering)

			var mu sync.Mutex
			var encrypted bool // by now
			var clear []string // what went out in the clear since
			front.Inject(homeserver.Fault{Match: rig.Sends, Do: func(w http.ResponseWriter, r *http.Request, server http.Handler) {
				body, err := io.ReadAll(r.Body)
				mu.Lock()
				waits := !encrypted
				if err == nil && !waits && bytes.Contains(body, []byte(secret)) {
					clear = append(clear, r.Method+" "+r.URL.Path)
				}
				mu.Unlock()
				if waits {
					homeserver.RateLimitBody(100)(w, r, nil)
					return
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				server.ServeHTTP(w, r)
			}})
			var online func()
			if !attempted {
				require.NoError(t, memory.Close())
				online = offline(front)
				memory = open(t, conf)
			}
			require.NoError(t, memory.Set("tea", fmt.Appendf(nil, "%q", secret)))
			if attempted {
				delivers(t, func() bool { return front.Count(homeserver.Seen(homeserver.StateWrite)) > 1 }, "it is attempted")
			}
			_, err := bot.SendStateEvent(t.Context(), room, event.StateEncryption, "", &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1})
			require.NoError(t, err)
			if attempted { // while nothing comes through
				delivers(t, func() bool {
					return front.Count(func(r homeserver.Request) bool { return strings.Contains(r.Path, "/send/m.room.encrypted/") }) > 0
				}, "it is attempted encrypted")
			}
			mu.Lock()
			encrypted = true
			mu.Unlock()
			if online != nil {
				online()
			}
			rig.Flush(t, memory, delivering)
			mu.Lock()
			defer mu.Unlock()
			require.Empty(t, clear)
			var pointer struct {
				Pointer id.EventID `json:"encrypted_val"`
			}
			require.NoError(t, json.Unmarshal([]byte(bot.Entries(t, room)["tea"]), &pointer))
			evt := other.decrypt(t, room, pointer.Pointer)
			require.JSONEq(t, fmt.Sprintf(`{"tea":%q}`, secret), string(evt.Content.VeryRaw))
			rig.Has(t, memory, "tea", fmt.Sprintf("%q", secret))
		})
	}
}

// What is sealed needs the key that it was sealed with, and what is to go out encrypted the
// key store of its device. Without them a start fails, says what is missing, and loses nothing. A key
// store that is lost is restored, and then they are delivered.
func TestSealedChangesWithoutTheirKeys(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	conf, front := bot.journalled(t, room)
	memory := open(t, conf)
	require.NoError(t, memory.Set("before", []byte(`1`)))
	rig.Flush(t, memory, delivering)
	require.NoError(t, memory.Close())
	online := offline(front)
	memory = open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, memory.Close())
	online()

	for name, test := range map[string]struct {
		change func(*matrix.Config)
		says   string
	}{
		"another store_key": {func(c *matrix.Config) { c.StoreKey = "hunter-two" }, "store_key"},
		"no store_key":      {func(c *matrix.Config) { c.StoreKey = "" }, "store_key"},
		"no key store":      {func(c *matrix.Config) { c.StorePath = filepath.Join(t.TempDir(), "new") }, "keys.db"},
	} {
		t.Run(name, func(t *testing.T) {
			conf := conf
			test.change(&conf)
			before, err := os.ReadFile(conf.Journal)
			require.NoError(t, err)
			err = rig.Refused(t, conf, e2ee.Enable())
			require.ErrorContains(t, err, test.says)
			require.NotContains(t, err.Error(), "hunter-two")
			now, err := os.ReadFile(conf.Journal)
			require.NoError(t, err)
			require.True(t, bytes.Equal(before, now), "the journal is as it was")
		})
	}
	conf.RecoveryKey = recoveryKey(t, conf.StorePath)
	conf.StorePath = filepath.Join(t.TempDir(), "restored")
	memory = open(t, conf)
	rig.Flush(t, memory, delivering)
	rig.Has(t, memory, "before", `1`)
	rig.Has(t, memory, "tea", `"green"`)
	require.Contains(t, bot.pointers(t, room), "tea")
}

// The journal keeps the encrypted events that keys point at, so that a start without a connection
// gives their values, the bot's own and what others wrote. None stands in a file in the clear, with
// a store_key or without, nor does an event stay there that was redacted, or that no key points at.
func TestEncryptedValuesAreReadOffline(t *testing.T) {
	const own, theirs = "b3JhbmdlLXBla29l-own \"é\"", "b3JhbmdlLXBla29l-theirs \"é\""
	for name, storeKey := range map[string]string{"store_key": "a passphrase", "no store_key": ""} {
		t.Run(name, func(t *testing.T) {
			bot, other := register(t), newPeer(t, register(t))
			room := bot.newRoom(t, rig.Writable, other.account)
			conf, front := bot.journalled(t, room)
			conf.StoreKey, conf.Timeout = storeKey, 10*time.Second
			quoted := func(secret string) string { return fmt.Sprintf("%q", secret) }
			search := func() {
				t.Helper()
				for _, secret := range []string{own, theirs} {
					notFound(t, filepath.Dir(conf.Journal), secret, room.String())
				}
			}
			// kept are the events in the journal, which no memory has open.
			kept := func() []string {
				t.Helper()
				j, err := journal.Open(conf.Journal, journal.Options{Account: bot.UserID.String(), Key: storeKey, Log: rig.Log(t)})
				require.NoError(t, err)
				defer j.Close()
				events, err := j.Events(room.String())
				require.NoError(t, err)
				return events
			}

			memory := open(t, conf)
			require.NoError(t, memory.Set("own", []byte(`"earlier"`)))
			rig.Flush(t, memory, delivering)
			require.NoError(t, memory.Set("own", []byte(quoted(own))))
			rig.Flush(t, memory, delivering)
			pointer := other.encrypt(t, room, valueType, fmt.Sprintf(`{"theirs":%q}`, theirs))
			ours := bot.pointers(t, room)["own"]
			other.put(t, room, fmt.Sprintf(`{"own":{"encrypted_val":%q},"theirs":{"encrypted_val":%q}}`, ours, pointer))
			delivers(t, func() bool { _, ok, err := memory.Get("theirs"); return ok && err == nil }, "what another wrote can't be read")
			require.NoError(t, memory.Close())
			search()

			want := map[string]string{"own": quoted(own), "theirs": quoted(theirs)}
			online := offline(front)
			for range 2 {
				memory = open(t, conf)
				require.Equal(t, want, rig.Entries(t, memory))
				require.NoError(t, memory.Close())
				search()
			}
			online()

			_, err := other.RedactEvent(t.Context(), room, pointer) // while the bot is away
			require.NoError(t, err)
			memory = open(t, conf)
			rig.Has(t, memory, "own", quoted(own))
			delivers(t, func() bool { _, _, err := memory.Get("theirs"); return errors.Is(err, matrix.ErrUndecryptable) }, "a redacted event's value is still there")
			require.NoError(t, memory.Set("more", []byte(`1`)))
			rig.Flush(t, memory, delivering)
			pointers := bot.pointers(t, room)
			require.NoError(t, memory.Close())
			require.ElementsMatch(t, []string{ours.String(), pointers["more"].String()}, kept())

			online = offline(front)
			memory = open(t, conf)
			rig.Has(t, memory, "own", quoted(own))
			rig.Has(t, memory, "more", `1`)
			_, _, err = memory.Get("theirs")
			require.Error(t, err)
			search()
			require.NoError(t, memory.Close())
			online()

			require.NoError(t, os.Remove(conf.Journal)) // so that the same events are read from the room
			memory = open(t, conf)
			rig.Has(t, memory, "own", quoted(own))
			rig.Has(t, memory, "more", `1`)
		})
	}
}
