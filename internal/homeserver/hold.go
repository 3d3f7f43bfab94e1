package homeserver

import (
	"net/http"
	"sync"
)

// Hold keeps changes, which are all requests but GETs, from the server, until what it
// returns is called. It returns when the server has answered all that it had been handed.
func (p *Proxy) Hold() (release func()) {
	p.gate.Lock()
	return sync.OnceFunc(p.gate.Unlock)
}

// gated hands on changes only while they are not held.
func (p *Proxy) gated(server http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			p.gate.RLock()
			defer p.gate.RUnlock()
		}
		server.ServeHTTP(w, r)
	})
}
