//go:build goolm

package e2ee_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// BenchmarkSet makes an encrypted Set and the same two requests by bare mautrix in
// turns, and reports their ratio.
func BenchmarkSet(b *testing.B) {
	bot, bare := register(b), register(b)
	room, bareRoom := bot.newRoom(b), bare.newRoom(b)
	memory := open(b, bot.config(b, room))
	require.NoError(b, memory.Set("key", []byte(`0`)))

	// Bare mautrix with the store that it brings, in a file as ours.
	db, err := dbutil.NewWithDialect("file:"+filepath.Join(b.TempDir(), "bare.db")+"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)", "sqlite")
	require.NoError(b, err)
	defer db.Close()
	states := mautrix.NewMemoryStateStore()
	bare.Client.StateStore = states
	store := crypto.NewSQLCryptoStore(db, nil, "", bare.DeviceID, []byte("a key"))
	require.NoError(b, store.DB.Upgrade(b.Context()))
	machine := crypto.NewOlmMachine(bare.Client, nil, store, states.(crypto.StateStore))
	require.NoError(b, machine.Load(b.Context()))
	require.NoError(b, machine.ShareKeys(b.Context(), -1))
	require.NoError(b, states.SetEncryptionEvent(b.Context(), bareRoom, &event.EncryptionEventContent{
		Algorithm:              id.AlgorithmMegolmV1,
		RotationPeriodMessages: 1_000_000, // it shares its session once
	}))
	require.NoError(b, machine.ShareGroupSession(b.Context(), bareRoom, []id.UserID{bare.UserID}))
	set := func(value int) {
		encrypted, err := machine.EncryptMegolmEvent(b.Context(), bareRoom, valueType, map[string]any{"key": value})
		require.NoError(b, err)
		sent, err := bare.SendMessageEvent(b.Context(), bareRoom, event.EventEncrypted, encrypted, mautrix.ReqSendEvent{DontEncrypt: true})
		require.NoError(b, err)
		_, err = bare.SendStateEvent(b.Context(), bareRoom, rig.MemoryType, "", map[string]any{"key": map[string]any{"encrypted_val": sent.EventID}})
		require.NoError(b, err)
	}
	set(0)

	var ours, theirs time.Duration
	for n := 1; b.Loop(); n++ {
		begin := time.Now()
		require.NoError(b, memory.Set("key", fmt.Appendf(nil, "%d", n)))
		ours += time.Since(begin)
		begin = time.Now()
		set(n)
		theirs += time.Since(begin)
	}
	b.ReportMetric(float64(ours)/float64(theirs), "ratio")
}

// BenchmarkGet reads a value that is decrypted and a plain one in turns, and reports
// the ratio of their times.
func BenchmarkGet(b *testing.B) {
	bot := register(b)
	encrypted := open(b, bot.config(b, bot.newRoom(b)))
	conf := bot.config(b, bot.newRoom(b))
	conf.ShouldEncrypt = matrix.Off
	plain := open(b, conf)
	value, err := json.Marshal(map[string]string{"tea": "green"})
	require.NoError(b, err)
	require.NoError(b, encrypted.Set("key", value))
	require.NoError(b, plain.Set("key", value))
	const reads = 10_000
	read := func(memory *matrix.Memory) time.Duration {
		begin := time.Now()
		for range reads {
			memory.Get("key")
		}
		return time.Since(begin)
	}
	var ours, theirs time.Duration
	for b.Loop() {
		theirs += read(plain)
		ours += read(encrypted)
	}
	b.ReportMetric(float64(ours)/float64(theirs), "ratio")
}

// BenchmarkFirstRead reads 1,000 values of two rooms for the first time, each in an
// event of its own, through a proxy that takes ten milliseconds for each event: as a bot does,
// which asks for one key after another, and as bare mautrix does, which fetches and
// decrypts one event after another. It reports how many times faster the former is.
func BenchmarkFirstRead(b *testing.B) {
	const values = 1000
	bot, reader := register(b), newPeer(b, register(b))
	rooms := []id.RoomID{bot.newRoom(b, reader.account), bot.newRoom(b, reader.account)}
	conf := bot.config(b, rooms[0])
	memory := open(b, conf)
	for i := range values {
		require.NoError(b, memory.InRoom(rooms[i%2].String()).Set(fmt.Sprint(i), i))
	}
	require.NoError(b, memory.Close())
	slow, proxy := proxied(b, conf)
	proxy.Inject(homeserver.Fault{
		Match: func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/event/") },
		Do:    homeserver.Delay(10 * time.Millisecond),
	})
	var err error
	reader.HomeserverURL, err = url.Parse(proxy.URL())
	require.NoError(b, err)
	reader.sync(b)

	var ours, theirs time.Duration
	for b.Loop() {
		memory := open(b, slow)
		begin := time.Now()
		for i := range values {
			var value int
			_, err := memory.InRoom(rooms[i%2].String()).Get(fmt.Sprint(i), &value)
			require.NoError(b, err)
			require.Equal(b, i, value)
		}
		ours += time.Since(begin)
		require.NoError(b, memory.Close())

		begin = time.Now()
		for _, room := range rooms {
			for _, eventID := range bot.pointers(b, room) {
				evt, err := reader.GetEvent(b.Context(), room, eventID)
				require.NoError(b, err)
				evt.RoomID = room
				require.NoError(b, evt.Content.ParseRaw(evt.Type))
				_, err = reader.machine.DecryptMegolmEvent(b.Context(), evt)
				require.NoError(b, err)
			}
		}
		theirs += time.Since(begin)
	}
	b.ReportMetric(float64(theirs)/float64(ours), "times-faster")
}
