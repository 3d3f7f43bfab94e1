package test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// newAlias gives a room an alias.
func (a account) newAlias(t testing.TB, name string, room id.RoomID) string {
	t.Helper()
	alias := id.NewRoomAlias(name+strings.ToLower(a.UserID().Localpart()), server.Name())
	_, err := a.CreateAlias(t.Context(), alias, room)
	require.NoError(t, err)
	return alias.String()
}

// The timeout bounds an operation as a whole: looking the room up, reading its state
// and the write share it.
func TestTimeoutBoundsAnOperation(t *testing.T) {
	bot := register(t)
	r := behind(t, proxy(t), bot, 3*time.Second, matrix.OneStateKey)
	alias := bot.newAlias(t, "slow", bot.newRoom(t))
	slow := homeserver.Delay(2 * r.timeout / 5)
	directory := func(q *http.Request) bool { return strings.Contains(q.URL.Path, "/directory/room/") }
	r.front.Inject(homeserver.Fault{Match: directory, Times: 1, Do: slow})
	r.front.Inject(homeserver.Fault{Match: wholeState, Times: 1, Do: slow})
	r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.BlackHole()})
	start := time.Now()
	require.Error(t, r.InRoom(alias).Set("k", 1))
	took := time.Since(start)
	require.GreaterOrEqual(t, took, 4*r.timeout/5, "it came to the write")
	require.Less(t, took, r.timeout+time.Second)
}

// Who waits for a room's state that another reads does not wait longer than for its own.
func TestTimeoutBoundsWaitingForOthers(t *testing.T) {
	bot := register(t)
	r := behind(t, proxy(t), bot, 2*time.Second, matrix.OneStateKey)
	other := bot.newRoom(t)
	r.front.Inject(homeserver.Fault{Match: wholeState, Do: homeserver.BlackHole()})
	var reading sync.WaitGroup
	start := time.Now()
	for range 4 {
		reading.Go(func() {
			if _, err := r.InRoom(other.String()).Get("k", nil); err == nil {
				t.Error("the state can't be read")
			}
		})
	}
	reading.Wait()
	require.Less(t, time.Since(start), r.timeout+time.Second)
}

// DeleteAll names a key that failed, and counts those that were deleted, where each
// is a state event of its own.
func TestDeleteAllInPart(t *testing.T) {
	bot := register(t)
	for name, fault := range map[string]struct {
		do   homeserver.Action
		want error
	}{
		"refused":   {homeserver.Status(403, nil, `{"errcode":"M_FORBIDDEN","error":"no"}`), matrix.ErrForbidden},
		"no answer": {homeserver.BlackHole(), commit.ErrUnknownOutcome},
	} {
		t.Run(name, func(t *testing.T) {
			r := behind(t, proxy(t), bot, 2*time.Second, matrix.PerKey)
			for _, key := range []string{"a", "b", "c", "d"} {
				require.NoError(t, r.Set(key, []byte(`1`)))
			}
			r.front.Inject(homeserver.Fault{Do: fault.do, Match: func(q *http.Request) bool {
				return homeserver.StateWrite(q) && strings.HasSuffix(q.URL.Path, "/c")
			}})
			n, err := r.InRoom(r.room.String()).DeleteAll("a", "missing", "b", "c")
			r.failed(t, err, "delete", "c")
			require.ErrorIs(t, err, fault.want)
			require.Equal(t, 2, n)
			for _, key := range []string{"a", "b"} {
				r.has(t, key, "")
			}
		})
	}
	t.Run("several", func(t *testing.T) {
		r := behind(t, proxy(t), bot, 5*time.Second, matrix.PerKey)
		for _, key := range []string{"a", "b", "c"} {
			require.NoError(t, r.Set(key, []byte(`1`)))
		}
		r.front.Inject(homeserver.Fault{Do: homeserver.Status(403, nil, `{"errcode":"M_FORBIDDEN","error":"no"}`), Match: func(q *http.Request) bool {
			return homeserver.StateWrite(q) && !strings.HasSuffix(q.URL.Path, "/b")
		}})
		n, err := r.InRoom(r.room.String()).DeleteAll("a", "b", "c")
		r.failed(t, err, "delete", "a")
		require.ErrorIs(t, err, matrix.ErrForbidden)
		require.ErrorContains(t, err, `"c"`)
		require.Equal(t, 1, n)
	})
}
