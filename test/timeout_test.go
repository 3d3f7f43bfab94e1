package test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// The timeout bounds an operation as a whole: looking the room up, reading its state
// and the write share it.
func TestTimeoutBoundsAnOperation(t *testing.T) {
	bot := rig.Register(t)
	r := behind(t, rig.Proxy(t), bot, 10*time.Second, matrix.OneStateKey)
	alias := bot.NewAlias(t, bot.NewRoom(t)).String()
	slow := homeserver.Delay(2 * r.Timeout / 5)
	directory := func(q *http.Request) bool { return strings.Contains(q.URL.Path, "/directory/room/") }
	r.Front.Inject(homeserver.Fault{Match: directory, Times: 1, Do: slow})
	r.Front.Inject(homeserver.Fault{Match: rig.Load, Times: 1, Do: slow})
	r.Front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.BlackHole()})
	start := time.Now()
	require.Error(t, r.InRoom(alias).Set("k", 1))
	took := time.Since(start)
	require.GreaterOrEqual(t, took, 4*r.Timeout/5, "it came to the write")
	require.Less(t, took, r.Timeout+time.Second)
}

// Who waits for a room's state that another reads does not wait longer than for its own.
func TestTimeoutBoundsWaitingForOthers(t *testing.T) {
	bot := rig.Register(t)
	r := behind(t, rig.Proxy(t), bot, 10*time.Second, matrix.OneStateKey)
	other := bot.NewRoom(t)
	r.Front.Inject(homeserver.Fault{Match: rig.Load, Do: homeserver.BlackHole()})
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
	require.Less(t, time.Since(start), r.Timeout+time.Second)
}
