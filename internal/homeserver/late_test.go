package homeserver

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// recording is a server that keeps the bodies that it has seen.
type recording struct {
	mu     sync.Mutex
	bodies []string
}

func (s *recording) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.bodies = append(s.bodies, string(body))
	s.mu.Unlock()
	answer(w, http.StatusOK, nil, `{"event_id":"$e"}`)
}

func (s *recording) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.bodies...)
}

// put sends a body through a proxy, on a connection that is kept, and returns the answer.
func put(t *testing.T, p *Proxy, body string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.URL(), strings.NewReader(body))
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	whole, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(whole)
}

// A request that is delivered late is answered at once, is seen when it is released,
// and does not stand in the way of others.
func TestDeliversLate(t *testing.T) {
	for name, test := range map[string]struct {
		do     func(release <-chan struct{}, delivered chan<- struct{}) Action
		status int
		body   string
		first  []string
	}{
		"Late":  {func(r <-chan struct{}, d chan<- struct{}) Action { return Late(504, r, d) }, 504, "Gateway Timeout", []string{}},
		"Twice": {Twice, 200, `{"event_id":"$e"}`, []string{"one"}},
	} {
		t.Run(name, func(t *testing.T) {
			var server recording
			p := proxyTo(t, server.ServeHTTP)
			release, delivered := make(chan struct{}), make(chan struct{})
			p.Inject(Fault{Times: 1, Do: test.do(release, delivered)})
			status, body := put(t, p, "one")
			require.Equal(t, test.status, status)
			require.Equal(t, test.body, body)
			require.Equal(t, test.first, server.seen())
			require.Equal(t, test.status, p.Requests()[0].Status)
			status, _ = put(t, p, "two")
			require.Equal(t, http.StatusOK, status)
			close(release)
			<-delivered
			require.Equal(t, append(test.first, "two", "one"), server.seen())
		})
	}
}

// What is not released by the time that the proxy closes is never delivered.
func TestLateEndsWithTheProxy(t *testing.T) {
	var server recording
	p := proxyTo(t, server.ServeHTTP)
	p.Inject(Fault{Do: Late(504, nil, nil)})
	put(t, p, "one")
	require.NoError(t, p.Close())
	require.Empty(t, server.seen())
}
