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
	type change struct{ theirs, read, memory bool }
	for name, change := range map[string]change{
		"own writes":                        {},
		"another's write among them":        {theirs: true},
		"another's write among them, read":  {theirs: true, read: true},
		"another memory's write among them": {theirs: true, memory: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := behind(t, rig.Proxy(t), bot, 15*time.Second, matrix.OneStateKey)
			require.NoError(t, r.Set("start", []byte(`1`)))
			r.InStep(t)
			restore := r.LoseSync(t)
			want := map[string]int{"start": 1}
			if change.theirs {
				want["theirs"] = 1
			}
			switch {
			case change.memory: // which ends, and so puts nothing back
				other := rig.Open(t, bot.Config(r.Room))
				require.NoError(t, other.Set("theirs", []byte(`1`)))
				require.NoError(t, other.Close())
			case change.theirs:
				bot.Put(t, r.Room, "", want)
			}
			if change.read {
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
