package homeserver

import (
	"context"
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

// Finish hands the request on and waits for the server's answer, though the client may give
// up meanwhile. So what the server has begun for a client that dies has ended once
// [Proxy.Hold] returns.
func Finish() Action {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		first := act(r.WithContext(r.Context().Value(open{}).(context.Context)), server)
		answer(w, first.Code, first.Header(), first.Body.String())
	}
}
