package test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// news makes sync bring something: a change of the power levels, which differs each time.
func (r rig) news(t testing.TB, n int) {
	t.Helper()
	_, err := r.SendStateEvent(t.Context(), r.room, event.StatePowerLevels, "", map[string]any{
		"n": n, "users": map[string]int{r.UserID().String(): 100},
	})
	require.NoError(t, err)
}

// loseSync lets sync fail from now on, and returns when it does. The function that it
// returns lets sync work again, and returns when the memory has seen all there is.
func (r rig) loseSync(t testing.TB) (restore func()) {
	t.Helper()
	remove := r.front.Inject(homeserver.Fault{Match: followUp, Do: homeserver.Status(502, nil, "")})
	r.news(t, -1)
	eventually(t, func() bool {
		syncs := r.seen(followUp)
		return len(syncs) > 0 && syncs[len(syncs)-1].Status == http.StatusBadGateway
	}, "sync fails")
	return func() {
		t.Helper()
		before := len(r.seen(followUp))
		remove()
		eventually(t, func() bool {
			for _, sync := range r.seen(followUp)[before:] {
				if sync.Status == http.StatusOK { // what it brought is seen when the next one comes
					last := r.seen(followUp)
					return last[len(last)-1].Time.After(sync.Time)
				}
			}
			return false
		}, "sync works again")
	}
}

// inStep waits until sync has brought what the memory wrote so far.
func (r rig) inStep(t testing.TB) {
	t.Helper()
	for n := range 2 { // the first ends a sync that may have begun before the last write
		before := len(r.seen(followUp))
		r.news(t, -2-n)
		eventually(t, func() bool { return len(r.seen(followUp)) > before }, "the next sync")
	}
}

// Sync that is away while more is written than it brings afterwards says nothing of
// what it left out; nothing is concluded from that, and nothing is lost.
func TestGapInSyncLosesNothing(t *testing.T) {
	bot := register(t)
	for name, theirs := range map[string]bool{"own writes": false, "another's write among them": true} {
		t.Run(name, func(t *testing.T) {
			r := behind(t, proxy(t), bot, 15*time.Second, matrix.OneStateKey)
			require.NoError(t, r.Set("start", []byte(`1`)))
			r.inStep(t)
			restore := r.loseSync(t)
			want := map[string]int{"start": 1}
			if theirs {
				want["theirs"] = 1
				_, err := bot.SendStateEvent(t.Context(), r.room, memoryType, "", want)
				require.NoError(t, err)
				r.unknown(homeserver.ResetBefore())
				require.Error(t, r.Set("unknown", []byte(`1`)), "so that the event is read again")
			}
			for i := range 25 {
				key := fmt.Sprint("key", i)
				require.NoError(t, r.Set(key, []byte(`1`)))
				want[key] = 1
			}
			restore()
			require.NoError(t, r.Close()) // which waits for what the memory would put back
			stored := open(t, bot.config(r.room))
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
	bot, other := register(t), register(t)
	front := proxy(t)
	room := bot.newRoom(t, other)
	conf := bot.config(room)
	conf.Homeserver = front.URL()
	memory := matrix.New(conf, matrix.WithLogger(quiet(t)))
	filter := memory.Client().Syncer.(*mautrix.DefaultSyncer).FilterJSON
	filter.Room.Timeline.Types = append(filter.Room.Timeline.Types, event.EventMessage)
	require.NoError(t, memory.Open(t.Context()))
	t.Cleanup(func() { require.NoError(t, memory.Close()) })
	r := rig{bot, memory, front, room, conf.Timeout}
	require.NoError(t, r.Set("start", []byte(`1`)))
	r.inStep(t)
	restore := r.loseSync(t)
	for _, key := range []string{"first", "second", "third"} {
		require.NoError(t, r.Set(key, []byte(`1`)))
	}
	for i := range 25 {
		_, err := other.SendText(t.Context(), room, fmt.Sprint(i))
		require.NoError(t, err)
	}
	restore()
	require.NoError(t, r.Close())
	require.JSONEq(t, `{"start":1,"first":1,"second":1,"third":1}`, bot.state(t, room)[""])
}

// A redaction that sync leaves out is noticed: what was redacted is not answered any
// more, and the next write does not publish it again.
func TestRedactionInAGapOfSync(t *testing.T) {
	bot := register(t)
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			r := behind(t, proxy(t), bot, 15*time.Second, layout)
			require.NoError(t, r.Set("secret", []byte(`1`)))
			r.inStep(t)
			all, err := bot.State(t.Context(), r.room)
			require.NoError(t, err)
			restore := r.loseSync(t)
			for _, evt := range all[memoryType] {
				_, err = bot.RedactEvent(t.Context(), r.room, evt.ID)
				require.NoError(t, err)
			}
			for i := range 25 {
				r.news(t, i)
			}
			restore()
			eventually(t, func() bool {
				_, ok, err := r.Get("secret")
				return err == nil && !ok
			}, "what was redacted is gone")
			require.NoError(t, r.Set("x", []byte(`1`)))
			for _, content := range bot.state(t, r.room) {
				require.NotContains(t, content, "secret")
			}
		})
	}
}
