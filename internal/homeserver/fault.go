package homeserver

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Action is what happens to a request that a fault strikes. The server handler
// hands the request on to the real server. The request's context ends when the
// client gives up or the proxy closes, and its body has arrived wholly.
type Action func(w http.ResponseWriter, r *http.Request, server http.Handler)

// Status answers in place of the server, which does not see the request. The
// header may be nil.
func Status(code int, header http.Header, body string) Action {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		answer(w, code, header, body)
	}
}

// RateLimit answers 429 and says when to come back in a Retry-After header, as
// the specification has it since v1.10. The header counts whole seconds, so wait
// is rounded up to them.
func RateLimit(wait time.Duration) Action {
	seconds := int(math.Ceil(wait.Seconds()))
	return Status(http.StatusTooManyRequests, http.Header{"Retry-After": {strconv.Itoa(seconds)}},
		matrixError("M_LIMIT_EXCEEDED", "Too many requests"))
}

// RateLimitBody answers 429 and says when to come back as milliseconds in the
// body, as older servers do.
func RateLimitBody(ms int) Action {
	return Status(http.StatusTooManyRequests, nil,
		fmt.Sprintf(`{"errcode":"M_LIMIT_EXCEEDED","error":"Too many requests","retry_after_ms":%d}`, ms))
}

// ResetBefore resets the connection; the server does not see the request.
//
// Note that Go's own HTTP client tries a GET again, unasked, if the connection
// had served another request before.
func ResetBefore() Action {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { reset(w) }
}

// ResetAfter lets the server act and then resets the connection, so the client
// cannot know the outcome.
func ResetAfter() Action {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		act(r, server)
		reset(w)
	}
}

// StatusAfter lets the server act and answers with a status of its own.
func StatusAfter(code int) Action {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		act(r, server)
		answer(w, code, nil, matrixError("M_UNKNOWN", "The answer was lost"))
	}
}

// Corrupt lets the server act and answers 200 with another body.
func Corrupt(body string) Action {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		act(r, server)
		answer(w, http.StatusOK, nil, body)
	}
}

// Delay waits before it hands the request on, which it does not if the client
// has given up by then.
func Delay(d time.Duration) Action {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			server.ServeHTTP(w, r)
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
}

// BlackHole never answers. It ends when the client gives up or the proxy closes;
// the server does not see the request.
func BlackHole() Action {
	return func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
}

// PauseBefore stops before the server sees the request: it sends on reached, and
// goes on as soon as it receives from release or release is closed. If the client
// gives up meanwhile, the server never sees the request.
func PauseBefore(reached chan<- struct{}, release <-chan struct{}) Action {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		pause(r, reached, release)
		server.ServeHTTP(w, r)
	}
}

// PauseAfter is like [PauseBefore], but stops when the server has acted and
// before the client is told what it answered.
func PauseAfter(reached chan<- struct{}, release <-chan struct{}) Action {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		recorder := act(r, server)
		pause(r, reached, release)
		answer(w, recorder.Code, recorder.Header(), recorder.Body.String())
	}
}

func pause(r *http.Request, reached chan<- struct{}, release <-chan struct{}) {
	select {
	case reached <- struct{}{}:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
	select {
	case <-release:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// act lets the server act on the request and returns its answer.
func act(r *http.Request, server http.Handler) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	server.ServeHTTP(recorder, r)
	return recorder
}

// reset closes the client's connection with a TCP reset.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // closes the connection, though in good order
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// answer writes a whole answer. It is JSON unless header says otherwise.
func answer(w http.ResponseWriter, code int, header http.Header, body string) {
	w.Header().Set("Content-Type", "application/json")
	maps.Copy(w.Header(), header)
	w.WriteHeader(code)
	_, _ = io.WriteString(w, body) // a client that has gone needs no answer
}

// matrixError is the body of an error answer, in the form that the specification
// gives it.
func matrixError(code, message string) string {
	body, err := json.Marshal(map[string]string{"errcode": code, "error": message})
	if err != nil {
		panic(err) // two strings can always be encoded
	}
	return string(body)
}

// StateWrite matches requests that send a state event.
func StateWrite(r *http.Request) bool {
	return r.Method == http.MethodPut && roomCall(r) == "state"
}

// EventSend matches requests that send an event which is not a state event.
func EventSend(r *http.Request) bool {
	return r.Method == http.MethodPut && roomCall(r) == "send"
}

// Sync matches requests of a sync loop.
func Sync(r *http.Request) bool {
	path := clientPath(r)
	return r.Method == http.MethodGet && len(path) == 2 && path[1] == "sync"
}

// FilterStore matches requests that store a filter for the syncs to come.
func FilterStore(r *http.Request) bool {
	path := clientPath(r)
	return r.Method == http.MethodPost && len(path) == 4 && path[1] == "user" && path[3] == "filter"
}

// Seen turns a matcher of faults into one for [Proxy.Count], as in
//
//	writes := proxy.Count(homeserver.Seen(homeserver.StateWrite))
func Seen(match func(*http.Request) bool) func(Request) bool {
	return func(seen Request) bool {
		u, err := url.ParseRequestURI(seen.Path)
		return err == nil && match(&http.Request{Method: seen.Method, URL: u})
	}
}

// roomCall returns what a request does in a room: NAME in
// /_matrix/client/v3/rooms/ROOM/NAME/…, or "".
func roomCall(r *http.Request) string {
	path := clientPath(r)
	if len(path) < 5 || path[1] != "rooms" {
		return ""
	}
	return path[3]
}

// clientPath returns the segments of a client API path that follow
// /_matrix/client/, the first being the version. They are escaped, since IDs and
// state keys may hold slashes.
func clientPath(r *http.Request) []string {
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), "/_matrix/client/")
	if !ok {
		return nil
	}
	return strings.Split(rest, "/")
}
