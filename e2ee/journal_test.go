//go:build goolm

package e2ee_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
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
// was delivered. None of them stands in the file in the clear, whether it is pending or not.
func TestJournalSealsValues(t *testing.T) {
	const pendingSecret, deliveredSecret, gone = "b3JhbmdlLXBla29l-pending \"é\"", "b3JhbmdlLXBla29l-delivered \"é\"", "b3JhbmdlLXBla29l-replaced \"é\""
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			bot, other := register(t), newPeer(t, register(t))
			room := bot.newRoom(t, other.account)
			conf, front := bot.journalled(t, room)
			conf.SingleStateKey = layout
			quoted := func(secret string) string { return fmt.Sprintf("%q", secret) }
			search := func() {
				t.Helper()
				for _, secret := range []string{pendingSecret, deliveredSecret, gone} {
					notFound(t, filepath.Dir(conf.Journal), secret, room.String())
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
			want := map[string]string{"delivered": quoted(deliveredSecret), "pending": quoted(pendingSecret), "bytes": pendingSecret}
			for start := range 2 {
				rig.Within(t, bound, "a start without a connection, and what it does", func() {
					memory = open(t, conf)
					if start == 0 {
						require.NoError(t, memory.Set("pending", []byte(quoted(gone))))
						require.NoError(t, memory.Set("pending", []byte(quoted(pendingSecret))))
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
			evt := other.decrypt(t, room, pointers["pending"])
			var content map[string]string
			require.NoError(t, json.Unmarshal(evt.Content.VeryRaw, &content))
			require.Equal(t, pendingSecret, content["pending"])
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
	for name, attempted := range map[string]bool{"before it is online": false, "after an attempt": true} {
		t.Run(name, func(t *testing.T) {
			bot, other := register(t), newPeer(t, register(t))
			room := bot.NewRoom(t, other.account)
			conf, front := bot.journalled(t, room)
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
			if attempted { // it has to hear of it, while it may send nothing
				before := len(rig.Proxied{Front: front}.Seen(rig.FollowUp))
				delivers(t, func() bool { return len(rig.Proxied{Front: front}.Seen(rig.FollowUp)) > before }, "sync")
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
// key store of its device. Without them a start fails, says what is missing, and loses nothing.
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
	memory = open(t, conf)
	rig.Flush(t, memory, delivering)
	rig.Has(t, memory, "tea", `"green"`)
	require.Contains(t, bot.pointers(t, room), "tea")
}
