package test

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// paced matches what a homeserver counts as sent.
func paced(r *http.Request) bool {
	return homeserver.StateWrite(r) || homeserver.EventSend(r) || strings.Contains(r.URL.Path, "/redact/")
}

// A limit is that of an account, as a Synapse has it, in a proxy.
type limit struct {
	interval time.Duration
	burst    int

	mu    sync.Mutex // owns what follows
	empty time.Time  // when the bucket is
}

func (l *limit) do(w http.ResponseWriter, r *http.Request, server http.Handler) {
	if wait := l.take(); wait > 0 {
		limited("", fmt.Sprint(wait.Milliseconds()))(w, r, server)
		return
	}
	server.ServeHTTP(w, r)
}

// take returns how long the bucket has no place, or takes one.
func (l *limit) take() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.empty.Before(now) {
		l.empty = now
	}
	after := l.empty.Add(l.interval)
	if wait := after.Sub(now) - time.Duration(l.burst)*l.interval; wait > 0 {
		return wait
	}
	l.empty = after
	return 0
}

// limitedBot returns an account with rooms, on a homeserver that limits what it sends, and a
// proxy in front. A Synapse has its default limits; elsewhere it is the proxy that limits.
func limitedBot(t *testing.T, n int) (bot rig.Account, rooms []id.RoomID, front *homeserver.Proxy) {
	t.Helper()
	prepare := func(s rig.Server) {
		bot = s.NewAccount(t)
		for range n {
			rooms = append(rooms, bot.NewRoom(t))
		}
	}
	server := rig.Shared(t)
	var fault homeserver.Fault
	if server.Software() == homeserver.Synapse {
		server = rig.Limited(t, prepare)
		bot.HomeserverURL.Host = strings.TrimPrefix(server.URL(), "http://")
	} else {
		prepare(server)
		fault = homeserver.Fault{Match: paced, Do: (&limit{interval: 500 * time.Millisecond, burst: 10}).do}
	}
	front = server.Proxy(t)
	if fault.Do != nil {
		front.Inject(fault)
	}
	return bot, rooms, front
}

// Of what all rooms write at once to a homeserver that limits it, few requests are refused.
func TestManyRoomsWithinTheLimit(t *testing.T) {
	t.Parallel()
	const n = 30
	bot, rooms, front := limitedBot(t, n)
	conf := bot.Config(rooms[0])
	conf.Timeout, conf.SingleStateKey = 5*time.Minute, matrix.OneStateKey
	r := rig.Behind(t, front, bot, conf)
	handles := make([]*matrix.Room, n)
	for i, room := range rooms {
		handles[i] = r.InRoom(room.String())
		_, err := handles[i].Get("tea", nil) // reading is not limited
		require.NoError(t, err)
	}
	var all sync.WaitGroup
	for i, handle := range handles {
		all.Go(func() {
			if err := handle.Set("tea", fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	puts, refused := 0, 0
	for _, request := range r.Seen(paced) {
		puts++
		if request.Status == http.StatusTooManyRequests {
			refused++
		}
	}
	t.Logf("%d values took %d requests, of which %d were refused", n, puts, refused)
	const burst, share = 10, .2
	most := n - burst + int(math.Ceil((n-burst)*share)) // all that met the limit when nobody knew of it, and a share of the rest
	require.LessOrEqual(t, refused, most)
}
