package rig

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// Sending matches what a homeserver counts as sent by an account: messages, state events and
// redactions.
func Sending(r *http.Request) bool {
	return homeserver.StateWrite(r) || homeserver.EventSend(r) || r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/redact/")
}

// Limited puts a fault proxy in front of a homeserver that limits what an account sends to a
// burst of 10 and then one event an interval: a Synapse of the test's own with its default limits,
// or else the shared homeserver, with the interval that is given. prepare does before what takes
// more events.
func Limited(t testing.TB, interval time.Duration, prepare func(Server)) (front *homeserver.Proxy, every time.Duration) {
	t.Helper()
	if Shared(t).Software() != homeserver.Synapse {
		prepare(Shared(t))
		front = Proxy(t)
		front.Inject(homeserver.Fault{Match: Sending, Do: (&limit{interval: interval, burst: 10}).act})
		return front, interval
	}
	opts := homeserver.Options{Dir: t.TempDir(), Software: homeserver.Synapse, Progress: t.Output()}
	free, err := homeserver.Start(t.Context(), opts)
	require.NoError(t, err)
	prepare(Server{free})
	require.NoError(t, free.Stop())
	opts.DefaultRateLimits = true
	limited, err := homeserver.Start(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, limited.Stop()) })
	return Server{limited}.Proxy(t), 5 * time.Second
}

// A limit is a leaky bucket.
type limit struct {
	interval time.Duration
	burst    int

	mu    sync.Mutex // owns what follows
	empty time.Time  // when it is
}

func (l *limit) act(w http.ResponseWriter, r *http.Request, server http.Handler) {
	if wait := l.take(); wait > 0 {
		homeserver.RateLimitBody(int(wait.Milliseconds()))(w, r, server)
		return
	}
	server.ServeHTTP(w, r)
}

// take takes a place in the bucket, or returns when there will be one.
func (l *limit) take() (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.empty.Before(now) {
		l.empty = now
	}
	after := l.empty.Add(l.interval)
	if wait = after.Sub(now) - time.Duration(l.burst)*l.interval; wait <= 0 {
		l.empty = after
	}
	return wait
}
