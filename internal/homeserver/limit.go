package homeserver

import (
	"math"
	"net/http"
	"sync"
	"time"
)

// Limit hands on what one user may do on a server that limits that: so much at once, and
// then one request after each pause. Any other is answered 429, and does not count. All
// requests that the action strikes count together. Synapse's defaults are 10 and 5 s.
func Limit(atOnce int, pause time.Duration) Action {
	var mu sync.Mutex
	var used float64 // as of the time below
	var last time.Time
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		mu.Lock()
		now := time.Now()
		used = max(0, used-float64(now.Sub(last))/float64(pause))
		last = now
		wait := (used + 1 - float64(atOnce)) * float64(pause)
		if wait <= 0 {
			used++
		}
		mu.Unlock()
		if wait > 0 {
			server = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				RateLimitBody(int(math.Ceil(wait/float64(time.Millisecond))))(w, r, nil)
			})
		}
		server.ServeHTTP(w, r)
	}
}
