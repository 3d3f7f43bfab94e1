package test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A write whose answer is lost or that never arrived is sent again, and stands in
// the room once.
func TestLostAnswers(t *testing.T) {
	bot := rig.Register(t)
	faults := []struct {
		name string
		do   homeserver.Action
		puts int
	}{
		{"internal error", homeserver.Status(500, nil, `{"errcode":"M_UNKNOWN","error":"oops"}`), 2},
		{"bad gateway", homeserver.Status(502, nil, "<html>"), 2},
		{"unavailable", homeserver.Status(503, http.Header{"Retry-After": {"1"}}, ""), 2},
		{"gateway timeout", homeserver.Status(504, nil, ""), 2},
		{"reset before", homeserver.ResetBefore(), 2},
		{"reset after", homeserver.ResetAfter(), 2},
		{"bad gateway after", homeserver.StatusAfter(502), 2},
		{"timeout after", homeserver.StatusAfter(408), 2},
		{"empty", homeserver.Corrupt(""), 2},
		{"no event ID", homeserver.Corrupt("{}"), 2},
		{"another event ID", homeserver.Corrupt(`{"event_id":17}`), 2},
		{"half", homeserver.Corrupt(`{"event_`), 2},
		{"no JSON", homeserver.Corrupt("<html>Please log in</html>"), 2},
		{"slow", homeserver.Delay(300 * time.Millisecond), 1},
	}
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := behind(t, rig.Proxy(t), bot, 30*time.Second, layout)
			for i, fault := range faults {
				r.Front.Reset()
				r.Front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: fault.do})
				want := fmt.Sprint(i)
				require.NoError(t, r.Set("tea", []byte(want)), fault.name)
				require.Equal(t, fault.puts, r.Writes(), fault.name)
				rig.Has(t, r.Memory, "tea", want)
			}
			eventually(t, func() bool { return r.History(t) >= len(faults) }, "the room's history")
			require.Equal(t, len(faults), r.History(t), "events, one for each value")
			r.Front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: homeserver.ResetAfter()})
			was, err := r.Delete("tea")
			require.NoError(t, err)
			require.True(t, was, "it was there before the first attempt")
			rig.Has(t, r.Memory, "tea", "")
			for _, content := range r.Standing(t, r.Room) {
				require.Equal(t, `{}`, content)
			}
		})
	}
}

// Two memories write, and every third of their writes is stored without their hearing of
// it, so that they send it once more. Neither undoes what the other wrote in between.
func TestLostAnswersToTwoMemories(t *testing.T) {
	for name, lost := range map[string]homeserver.Action{"reset": homeserver.ResetAfter(), "bad gateway": homeserver.StatusAfter(502)} {
		t.Run(name, func(t *testing.T) {
			rig.WithAndWithoutJournals(t, func(t *testing.T, journals bool) {
				all := rig.CrowdWith(t, rig.Shared(t), 2, matrix.OneStateKey, journals)
				for _, r := range all {
					var n atomic.Int32
					r.Front.Inject(homeserver.Fault{Do: lost, Match: func(q *http.Request) bool {
						return homeserver.StateWrite(q) && n.Add(1)%3 == 0
					}})
				}
				rig.Settle(t, rig.Fill(t, all, 40), rig.Lasting, all...)
			})
		})
	}
}

// Reads that go wrong are made again, and what could not be read is never taken
// for nothing.
func TestLostReads(t *testing.T) {
	bot := rig.Register(t)
	r := behind(t, rig.Proxy(t), bot, 20*time.Second, matrix.OneStateKey)
	room := bot.NewRoom(t)
	bot.Put(t, room, "", map[string]any{"theirs": 1})
	handle := r.InRoom(room.String())

	remove := r.Front.Inject(homeserver.Fault{Match: rig.Load, Do: limited("3600", "")})
	_, err := handle.Get("theirs", nil)
	var failure *matrix.Error
	require.ErrorAs(t, err, &failure)
	require.Equal(t, room.String(), failure.Room)
	answered(t, err, "M_LIMIT_EXCEEDED")
	require.ErrorAs(t, handle.Set("ours", "secret"), &failure)
	require.Equal(t, "ours", failure.Key)
	require.Zero(t, r.Writes(), "nothing is written upon what could not be read")
	remove()

	for _, do := range []homeserver.Action{
		homeserver.Status(503, nil, ""),
		homeserver.ResetAfter(),
		homeserver.Corrupt("<html>"),
		homeserver.Corrupt(`[{"type":"dev.op`),
		homeserver.Corrupt(""),
	} {
		r.Front.Inject(homeserver.Fault{Match: rig.Load, Times: 1, Do: do})
	}
	ok, err := handle.Get("theirs", nil)
	require.NoError(t, err)
	require.True(t, ok)
	require.Len(t, r.Seen(rig.Load), 1+2+6, "at the start, when it was limited, and through all faults")
}

// Sync goes on after whatever goes wrong with it, and misses nothing.
func TestSyncRecovers(t *testing.T) {
	bot := rig.Register(t)
	front := rig.Proxy(t)
	for _, do := range []homeserver.Action{homeserver.Status(502, nil, ""), homeserver.Corrupt(`{}`)} {
		front.Inject(homeserver.Fault{Match: rig.FollowUp, Times: 1, Do: do})
	}
	log, kept := rig.KeepLog()
	r := behind(t, front, bot, 15*time.Second, matrix.OneStateKey, matrix.WithLogger(log))
	bot.Put(t, r.Room, "", map[string]any{"theirs": 1})
	eventually(t, func() bool { _, ok, err := r.Get("theirs"); return ok && err == nil }, "the other writer's key")
	require.Contains(t, kept.String(), "Sync fails; what others write is not seen until it works again")
	require.Contains(t, kept.String(), "Sync works again")
}
