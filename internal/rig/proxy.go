package rig

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// Proxy puts a fault proxy in front of the homeserver.
func (s Server) Proxy(t testing.TB) *homeserver.Proxy {
	t.Helper()
	proxy, err := s.Server.Proxy()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, proxy.Close()) })
	return proxy
}

// Proxy puts a fault proxy in front of the shared homeserver.
func Proxy(t testing.TB) *homeserver.Proxy {
	t.Helper()
	return Shared(t).Proxy(t)
}

// FollowUp matches the requests of a sync loop, but for the first.
func FollowUp(r *http.Request) bool { return homeserver.Sync(r) && r.URL.Query().Has("since") }

// OfSync matches what a sync loop asks for: it always has a request under way, and may store its
// filter at any time.
func OfSync(r *http.Request) bool { return homeserver.Sync(r) || homeserver.FilterStore(r) }

// StateRead matches reads of one state event of a memory.
func StateRead(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/state/"+MemoryType.Type)
}

// Load matches what reads a room's memory: its state and its last events.
func Load(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/context/")
}

// Forbidden answers that the account may not do that.
var Forbidden = homeserver.Status(http.StatusForbidden, nil, `{"errcode":"M_FORBIDDEN","error":"as the test says"}`)

// LostAfter is like [homeserver.PauseAfter], but the answer is lost.
func LostAfter(reached chan<- struct{}, release <-chan struct{}) homeserver.Action {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		homeserver.ResetAfter()(w, r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			homeserver.PauseAfter(reached, release)(w, r, server)
		}))
	}
}

// Far hands requests on to a homeserver that is far away: so long is one way.
func Far(way time.Duration) homeserver.Action {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		homeserver.Delay(way)(w, r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := httptest.NewRecorder()
			server.ServeHTTP(answer, r)
			homeserver.Delay(way)(w, r, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				maps.Copy(w.Header(), answer.Header())
				w.WriteHeader(answer.Code)
				_, _ = w.Write(answer.Body.Bytes()) // a client that has gone needs no answer
			}))
		}))
	}
}

// InPath matches requests to a path that holds a text.
func InPath(part string) func(*http.Request) bool {
	return func(r *http.Request) bool { return strings.Contains(r.URL.Path, part) }
}
