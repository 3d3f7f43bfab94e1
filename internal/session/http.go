package session

import (
	"net/http"
	"sync/atomic"
)

// connect sets what the client makes its requests with, and where it logs.
func (s *Session) connect() {
	s.client.Log = ClientLog(s.Log)
	var client http.Client
	if s.HTTPClient != nil {
		client = *s.HTTPClient
	}
	client.Timeout = 0 // each request is bounded, and a sync takes long
	lookup := client
	lookup.CheckRedirect = follow(asSafe, client.CheckRedirect)
	client.CheckRedirect = follow(sameHost, s.noting(client.CheckRedirect))
	if client.Transport == nil {
		client.Transport = http.DefaultTransport
		if plain, ok := client.Transport.(*http.Transport); ok { // a program may have replaced it
			own := plain.Clone()
			own.MaxIdleConnsPerHost = 16 // rooms are written to at the same time
			client.Transport, s.disconnect = own, own.CloseIdleConnections
		}
	}
	s.bearer = &bearer{next: client.Transport}
	client.Transport, lookup.Transport = s.bearer, s.bearer
	s.client.Client, s.lookup = &client, &lookup
}

// bearer puts the present access token on every request, so that the token can
// change while requests are under way: mautrix.Client's own field is not safe
// for that.
type bearer struct {
	next  http.RoundTripper
	token atomic.Pointer[string] // nil: as the client has it
}

func (b *bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	if token := b.token.Load(); token != nil && req.Header.Get("Authorization") != "" {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "Bearer "+*token)
	}
	return b.next.RoundTrip(req)
}

// CloseIdleConnections lets http.Client's method of that name reach the transport.
func (b *bearer) CloseIdleConnections() {
	if next, ok := b.next.(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}
