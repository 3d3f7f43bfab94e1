package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// Sync that is away while more is written than it brings afterwards says nothing of
// what it left out; nothing is concluded from that, and nothing is lost.
func TestGapInSyncLosesNothing(t *testing.T) {
	bot := rig.Register(t)
	for name, theirs := range map[string]bool{"own writes": false, "another's write among them": true} {
		t.Run(name, func(t *testing.T) {
			r := behind(t, rig.Proxy(t), bot, 15*time.Second, matrix.OneStateKey)
			require.NoError(t, r.Set("start", []byte(`1`)))
			r.InStep(t)
			restore := r.LoseSync(t)
			want := map[string]int{"start": 1}
			if theirs {
				want["theirs"] = 1
				bot.Put(t, r.Room, "", want)
				unknown(r.Front, homeserver.ResetBefore())
				require.Error(t, r.Set("unknown", []byte(`1`)), "so that the event is read again")
			}
			for i := range 25 {
				key := fmt.Sprint("key", i)
				require.NoError(t, r.Set(key, []byte(`1`)))
				want[key] = 1
			}
			restore()
			require.NoError(t, r.Close()) // which waits for what the memory would put back
			stored := rig.Open(t, bot.Config(r.Room))
			keys, err := stored.Keys()
			require.NoError(t, err)
			require.Len(t, keys, len(want))
			for key := range want {
				require.Contains(t, keys, key)
			}
		})
	}
}

// The same where messages crowd the memory's own events out of sync, as with the adapter.
func TestBusyRoomLosesNothing(t *testing.T) {
	bot, other := rig.Register(t), rig.Register(t)
	front := rig.Proxy(t)
	room := bot.NewRoom(t, other)
	conf := bot.Config(room)
	conf.Homeserver = front.URL()
	memory := matrix.New(conf, matrix.WithLogger(rig.Log(t)))
	filter := memory.Client().Syncer.(*mautrix.DefaultSyncer).FilterJSON
	filter.Room.Timeline.Types = append(filter.Room.Timeline.Types, event.EventMessage)
	require.NoError(t, memory.Open(t.Context()))
	t.Cleanup(func() { require.NoError(t, memory.Close()) })
	r := rig.Proxied{Account: bot, Memory: memory, Front: front, Room: room, Timeout: conf.Timeout}
	require.NoError(t, r.Set("start", []byte(`1`)))
	r.InStep(t)
	restore := r.LoseSync(t)
	for _, key := range []string{"first", "second", "third"} {
		require.NoError(t, r.Set(key, []byte(`1`)))
	}
	for i := range 25 {
		_, err := other.SendText(t.Context(), room, fmt.Sprint(i))
		require.NoError(t, err)
	}
	restore()
	require.NoError(t, r.Close())
	require.JSONEq(t, `{"start":1,"first":1,"second":1,"third":1}`, bot.Standing(t, room)[""])
}

// A redaction that sync leaves out is noticed: what was redacted is not answered any
// more, and the next write does not publish it again.
func TestRedactionInAGapOfSync(t *testing.T) {
	bot := rig.Register(t)
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			r := behind(t, rig.Proxy(t), bot, 15*time.Second, layout)
			require.NoError(t, r.Set("secret", []byte(`1`)))
			r.InStep(t)
			all, err := bot.State(t.Context(), r.Room)
			require.NoError(t, err)
			restore := r.LoseSync(t)
			for _, evt := range all[rig.MemoryType] {
				_, err = bot.RedactEvent(t.Context(), r.Room, evt.ID)
				require.NoError(t, err)
			}
			for i := range 25 {
				r.News(t, i)
			}
			restore()
			eventually(t, func() bool {
				_, ok, err := r.Get("secret")
				return err == nil && !ok
			}, "what was redacted is gone")
			require.NoError(t, r.Set("x", []byte(`1`)))
			for _, content := range bot.Standing(t, r.Room) {
				require.NotContains(t, content, "secret")
			}
		})
	}
}
