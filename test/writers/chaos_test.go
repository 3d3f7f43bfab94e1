package writers

import (
	"maps"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// chaos injects faults at random into proxies.
type chaos struct {
	random *rand.Rand // of the goroutine that runs it
	fronts []*homeserver.Proxy
	kinds  []kind

	ending chan struct{} // closed when all faults end
	late   atomic.Int32  // requests that are still to be delivered

	mu      sync.Mutex // owns what follows
	counted map[string]int
	removes []func()
}

// A kind of fault strikes up to three of the requests that match, or all for some time.
type kind struct {
	name  string
	match func(*http.Request) bool
	do    func() homeserver.Action
	lasts bool
}

const (
	errorPage = "<html><body>502 Bad Gateway</body></html>"
	refusal   = `{"errcode":"M_UNKNOWN_POS","error":"Unknown position"}`
)

func newChaos(random *rand.Rand, layout matrix.StateKey) *chaos {
	c := &chaos{random: random, counted: make(map[string]int), ending: make(chan struct{})}
	always := func(do homeserver.Action) func() homeserver.Action { return func() homeserver.Action { return do } }
	delay := func() homeserver.Action { return homeserver.Delay(c.upTo(1500 * time.Millisecond)) }
	html := http.Header{"Content-Type": {"text/html"}}
	redirect := func(code int) homeserver.Action { // to itself, as one to a trailing slash or to a mirror
		return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			homeserver.Status(code, http.Header{"Location": {r.URL.RequestURI()}}, "")(w, r, server)
		}
	}
	write, sync, read := homeserver.StateWrite, rig.FollowUp, func(r *http.Request) bool {
		return r.Method == http.MethodGet && !rig.FollowUp(r)
	}
	c.kinds = []kind{
		{"a write is reset before the homeserver sees it", write, always(homeserver.ResetBefore()), false},
		{"a write is reset after the homeserver acted", write, always(homeserver.ResetAfter()), false},
		{"a write is answered 502 after the homeserver acted", write, always(homeserver.StatusAfter(502)), false},
		{"a write is answered by an error page", write, always(homeserver.Status(502, html, errorPage)), false},
		{"a write is answered by a page of 200", write, always(homeserver.Corrupt(errorPage)), false},
		{"a write is answered by a page of 404", write, always(homeserver.Status(404, html, errorPage)), false},
		{"a write is answered without an event ID", write, always(homeserver.Corrupt(`{}`)), false},
		{"a write is redirected (302)", write, always(redirect(302)), false},
		{"a write is redirected (308)", write, always(redirect(308)), false},
		{"a write is limited", write, func() homeserver.Action { return homeserver.RateLimitBody(int(c.upTo(time.Second).Milliseconds())) }, false},
		{"a write is never answered", write, always(homeserver.BlackHole()), false},
		{"a write is slow", write, delay, false},
		{"a sync is reset", sync, always(homeserver.ResetAfter()), false},
		{"a sync is answered by an error page", sync, always(homeserver.Status(502, html, errorPage)), false},
		{"a sync is limited", sync, func() homeserver.Action { return homeserver.RateLimitBody(int(c.upTo(time.Second).Milliseconds())) }, false},
		{"sync is away", sync, always(homeserver.Status(502, nil, "")), true},
		{"sync hangs", sync, always(homeserver.BlackHole()), true},
		{"a read is reset", read, always(homeserver.ResetAfter()), false},
		{"a read is answered by an error page", read, always(homeserver.Status(503, html, errorPage)), false},
		{"a read is slow", read, delay, false},
	}
	if layout != matrix.PerKey { // there such a request can't be told from a change, once its memory was opened again
		c.kinds = append(c.kinds,
			kind{"a write is answered 504 and delivered late", write, func() homeserver.Action { return c.lately(gaveUp) }, false},
			kind{"a write is delivered twice", write, func() homeserver.Action { return c.lately(homeserver.Twice) }, false})
	}
	return c
}

// run injects faults until it is stopped.
func (c *chaos) run(stop <-chan struct{}) {
	for !rig.Stopped(stop, c.upTo(time.Second)) {
		front := c.fronts[c.random.IntN(len(c.fronts))]
		if c.random.IntN(15) == 0 {
			c.refuse(front)
			continue
		}
		k := c.kinds[c.random.IntN(len(c.kinds))]
		do := k.do()
		fault := homeserver.Fault{Match: k.match, Times: 1 + c.random.IntN(2), Do: func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			c.count(k.name)
			do(w, r, server)
		}}
		if k.lasts {
			fault.Times = 0
		}
		remove := front.Inject(fault)
		c.mu.Lock()
		c.removes = append(c.removes, remove)
		c.mu.Unlock()
		if k.lasts {
			time.AfterFunc(c.upTo(4*time.Second), remove)
		}
	}
}

// refuse lets the next sync's token be refused for good.
func (c *chaos) refuse(front *homeserver.Proxy) {
	refuse := homeserver.Status(http.StatusBadRequest, nil, refusal)
	rig.RefuseToken(front, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		c.count("a sync token is refused")
		refuse(w, r, server)
	})
}

// lately makes a request arrive late, at the latest when all faults end.
func (c *chaos) lately(late lateness) homeserver.Action {
	after := c.upTo(5 * time.Second)
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		c.late.Add(1)
		defer c.late.Add(-1)
		release := make(chan struct{})
		go func() {
			rig.Stopped(c.ending, after)
			close(release)
		}()
		late(release, nil)(w, r, server)
	}
}

// end takes all faults away, and returns when all that is late has been delivered.
func (c *chaos) end(t testing.TB) {
	t.Helper()
	c.mu.Lock()
	for _, remove := range c.removes {
		remove()
	}
	c.mu.Unlock()
	close(c.ending)
	eventually(t, func() bool { return c.late.Load() == 0 }, "what was late has been delivered")
}

// upTo returns a random duration.
func (c *chaos) upTo(most time.Duration) time.Duration {
	return time.Duration(c.random.Int64N(int64(most)))
}

func (c *chaos) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counted[what]++
}

// happened returns how often each thing has gone wrong.
func (c *chaos) happened() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.counted)
}
