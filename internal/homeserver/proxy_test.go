package homeserver

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// proxyTo starts a proxy in front of a handler instead of a homeserver.
func proxyTo(t *testing.T, handler http.HandlerFunc) *Proxy {
	t.Helper()
	real := httptest.NewServer(handler)
	t.Cleanup(real.Close)
	u, err := url.Parse(real.URL)
	require.NoError(t, err)
	port, err := strconv.Atoi(u.Port())
	require.NoError(t, err)
	p, err := (&Server{port: port}).Proxy()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func startProxy(t *testing.T, s *Server) *Proxy {
	t.Helper()
	p, err := s.Proxy()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func TestFaultsBeforeARealServer(t *testing.T) {
	s := startServer(t, t.TempDir())
	alice := register(t, s, "alice")
	room := alice.createRoom(t)
	// stored returns what the server itself has under key, past any proxy.
	stored := func(t *testing.T, key string) string {
		_, _, text, err := alice.do(t.Context(), http.MethodGet, statePath(room, key), nil)
		require.NoError(t, err)
		return text
	}
	const written, missing = `{"v":"written"}`, `"errcode":"M_NOT_FOUND"`

	tests := []struct {
		name   string
		do     Action
		status int // what the client sees; 0: no answer
		acted  bool
		check  func(t *testing.T, header http.Header, body string)
	}{
		{"Status", Status(503, http.Header{"X-Test": {"yes"}}, "away"), 503, false,
			func(t *testing.T, header http.Header, body string) {
				require.Equal(t, "yes", header.Get("X-Test"))
				require.Equal(t, "away", body)
			}},
		{"RateLimit", RateLimit(1500 * time.Millisecond), 429, false,
			func(t *testing.T, header http.Header, body string) {
				require.Equal(t, "2", header.Get("Retry-After"))
				require.Contains(t, body, "M_LIMIT_EXCEEDED")
				require.NotContains(t, body, "retry_after_ms")
			}},
		{"RateLimitBody", RateLimitBody(250), 429, false,
			func(t *testing.T, header http.Header, body string) {
				require.Empty(t, header.Get("Retry-After"))
				var limit struct {
					After int `json:"retry_after_ms"`
				}
				require.NoError(t, json.Unmarshal([]byte(body), &limit))
				require.Equal(t, 250, limit.After)
			}},
		{"ResetBefore", ResetBefore(), 0, false, nil},
		{"ResetAfter", ResetAfter(), 0, true, nil},
		{"StatusAfter", StatusAfter(502), 502, true, nil},
		{"Corrupt", Corrupt("{half"), 200, true,
			func(t *testing.T, _ http.Header, body string) { require.Equal(t, "{half", body) }},
		{"Delay", Delay(20 * time.Millisecond), 200, true, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := startProxy(t, s)
			p.Inject(Fault{Match: StateWrite, Times: 1, Do: test.do})
			client := alice
			client.base = p.URL()
			path := statePath(room, test.name)
			status, header, body, err := client.do(t.Context(), http.MethodPut, path, content{"v": "written"})
			require.Equal(t, test.status, status)
			if test.status == 0 {
				require.ErrorIs(t, err, syscall.ECONNRESET)
			} else {
				require.NoError(t, err)
			}
			if test.check != nil {
				test.check(t, header, body)
			}
			if test.acted {
				require.JSONEq(t, written, stored(t, test.name))
			} else {
				require.Contains(t, stored(t, test.name), missing)
			}
			client.must(t, http.MethodPut, path, content{"v": "written"}) // the fault is used up
			require.JSONEq(t, written, stored(t, test.name))
			seen := p.Requests()
			require.Len(t, seen, 2)
			require.Equal(t, test.status, seen[0].Status)
			require.Equal(t, len(body), seen[0].Size)
			require.Equal(t, 200, seen[1].Status)
			require.NotZero(t, seen[1].Size)
			require.Equal(t, "/_matrix/client/v3"+path, seen[0].Path)
		})
	}

	t.Run("BlackHole", func(t *testing.T) {
		p := startProxy(t, s)
		remove := p.Inject(Fault{Match: EventSend, Do: BlackHole()})
		client := alice
		client.base = p.URL()
		path := "/rooms/" + url.PathEscape(room) + "/send/m.room.message/txn1"
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, _, _, err := client.do(ctx, http.MethodPut, path, content{"msgtype": "m.text", "body": "x"})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		remove()
		client.must(t, http.MethodPut, path, content{"msgtype": "m.text", "body": "x"})
	})

	t.Run("PauseBefore", func(t *testing.T) {
		p := startProxy(t, s)
		client := alice
		client.base = p.URL()
		reached, release := make(chan struct{}), make(chan struct{})
		p.Inject(Fault{Match: StateWrite, Times: 1, Do: PauseBefore(reached, release)})
		status := make(chan int, 1)
		go func() {
			code, _, _, _ := client.do(t.Context(), http.MethodPut, statePath(room, "paused"), content{"v": "written"})
			status <- code
		}()
		<-reached
		require.Contains(t, stored(t, "paused"), missing)
		release <- struct{}{}
		require.Equal(t, 200, <-status)
		require.JSONEq(t, written, stored(t, "paused"))
	})

	t.Run("killed between acting and answering", func(t *testing.T) {
		p := startProxy(t, s)
		client := alice
		client.base = p.URL()
		reached, release := make(chan struct{}), make(chan struct{})
		p.Inject(Fault{Match: StateWrite, Times: 1, Do: PauseAfter(reached, release)})
		status := make(chan int, 1)
		go func() {
			code, _, _, _ := client.do(t.Context(), http.MethodPut, statePath(room, "killed"), content{"v": "written"})
			status <- code
		}()
		<-reached
		require.NoError(t, s.Kill())
		close(release)
		require.Equal(t, 200, <-status)
		code, _, body, err := client.do(t.Context(), http.MethodGet, statePath(room, "killed"), nil)
		require.NoError(t, err)
		require.Equal(t, 502, code, body)
		require.NoError(t, s.Restart(t.Context()))
		require.JSONEq(t, written, client.must(t, http.MethodGet, statePath(room, "killed"), nil))
	})
}

func TestProxyHandsOnPathAndQueryAsTheyCame(t *testing.T) {
	p := proxyTo(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) })
	for _, uri := range []string{
		"/_matrix/client/v3/rooms/!a:b/state/t/a%2Fb",
		"/_matrix/client/v3/rooms/%21a%3Ab/state/t/",
		"/_matrix/client/v3/rooms/!a:b/state/t/..%2f%20+;=",
		"/_matrix//client/./x/../y",
		"/a?filter=%7B%22a%22%3A1%7D&x=;&y=%zz",
		"/a?",
	} {
		p.Reset()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL(), nil)
		require.NoError(t, err)
		req.URL.Opaque = uri // goes out without being parsed
		resp, err := client.Do(req)
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, uri, string(text))
		require.Equal(t, uri, p.Requests()[0].Path)
	}
}

// get asks the proxy for path and returns the status, 0 for no answer.
func get(ctx context.Context, p *Proxy, path string) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL()+path, nil)
	if err != nil {
		return 0
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestFaultsStrikeInOrderAsOftenAsTheySay(t *testing.T) {
	p := proxyTo(t, func(http.ResponseWriter, *http.Request) {})
	onlyA := func(r *http.Request) bool { return r.URL.Path == "/a" }
	removeA := p.Inject(Fault{Match: onlyA, Do: Status(501, nil, "")})
	removeUsed := p.Inject(Fault{Times: 2, Do: Status(502, nil, "")})
	var got []int
	for _, path := range []string{"/a", "/b", "/a", "/b", "/b", "/a"} {
		got = append(got, get(t.Context(), p, path))
	}
	require.Equal(t, []int{501, 502, 501, 502, 200, 501}, got)
	removeA()
	removeA()
	removeUsed()
	require.Equal(t, 200, get(t.Context(), p, "/a"))

	require.Len(t, p.Requests(), 7)
	require.Equal(t, 4, p.Count(Seen(onlyA)))
	p.Reset()
	require.Empty(t, p.Requests())

	p.Inject(Fault{Times: 5, Do: Status(503, nil, "")})
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() { get(t.Context(), p, "/a") })
	}
	group.Wait()
	require.Equal(t, 5, p.Count(func(r Request) bool { return r.Status == 503 }))
	require.Equal(t, 15, p.Count(func(r Request) bool { return r.Status == 200 }))
}

func TestProxyFlushesAnAnswerThatGoesOn(t *testing.T) {
	finish := make(chan struct{})
	p := proxyTo(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "first")
		w.(http.Flusher).Flush()
		<-finish
		fmt.Fprintln(w, "last")
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL(), nil)
	require.NoError(t, err)
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	require.True(t, lines.Scan())
	require.Equal(t, "first", lines.Text())
	close(finish)
	require.True(t, lines.Scan())
	require.Equal(t, "last", lines.Text())
}

// TestHangingRequestsEnd shows that no request outlives its client or the proxy,
// whatever it hangs in.
func TestHangingRequestsEnd(t *testing.T) {
	never := make(chan struct{})
	reached := make(chan struct{}, 10)
	faults := map[string]Action{
		"/blackhole": BlackHole(),
		"/delay":     Delay(time.Hour),
		"/before":    PauseBefore(reached, never),
		"/after":     PauseAfter(reached, never),
		"/unreached": PauseBefore(nil, never),
	}
	served, gone := make(chan struct{}, 10), make(chan struct{}, 10)
	p := proxyTo(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/server" {
			served <- struct{}{}
			<-r.Context().Done()
			gone <- struct{}{}
		}
	})
	paths := []string{"/server"}
	for path, action := range faults {
		p.Inject(Fault{Match: func(r *http.Request) bool { return r.URL.Path == path }, Do: action})
		paths = append(paths, path)
	}

	ctx, cancel := context.WithCancel(t.Context())
	ask := func(ctx context.Context) (wait func()) {
		p.Reset()
		var group sync.WaitGroup
		for _, path := range paths {
			group.Go(func() { require.Zero(t, get(ctx, p, path), path) })
		}
		require.Eventually(t, func() bool { return len(p.Requests()) == len(paths) }, 10*time.Second, time.Millisecond)
		<-served
		return group.Wait
	}
	wait := ask(ctx)
	cancel()
	wait()
	<-gone

	wait = ask(t.Context())
	require.NoError(t, p.Close())
	wait()
	<-gone
	require.Zero(t, get(t.Context(), p, "/server"), "the proxy is closed")
}

func TestMatchers(t *testing.T) {
	const base = "/_matrix/client/v3/"
	tests := []struct {
		method, path      string
		state, send, sync bool
	}{
		{"PUT", base + "rooms/!a:b/state/t/key", true, false, false},
		{"PUT", base + "rooms/!a:b/state/t/", true, false, false},
		{"PUT", base + "rooms/!a:b/state/t", true, false, false},
		{"PUT", base + "rooms/%21a%2Fx%3Ab/state/t/a%2Fb", true, false, false},
		{"PUT", "/_matrix/client/r0/rooms/!a:b/state/t/key", true, false, false},
		{"GET", base + "rooms/!a:b/state/t/key", false, false, false},
		{"GET", base + "rooms/!a:b/state", false, false, false},
		{"PUT", base + "rooms/!a:b/send/t/state", false, true, false},
		{"PUT", base + "rooms/a%2Fstate%2Ft/send/t/1", false, true, false},
		{"GET", base + "sync?timeout=0", false, false, true},
		{"POST", base + "sync", false, false, false},
		{"GET", base + "user/sync", false, false, false},
		{"GET", "/sync", false, false, false},
	}
	for _, test := range tests {
		seen := Request{Method: test.method, Path: test.path}
		require.Equal(t, test.state, Seen(StateWrite)(seen), test)
		require.Equal(t, test.send, Seen(EventSend)(seen), test)
		require.Equal(t, test.sync, Seen(Sync)(seen), test)
	}
}
