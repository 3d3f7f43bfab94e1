package homeserver

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
)

// Late answers at once, as a gateway does that has waited long enough, and hands the
// request on to the server all the same, once release is closed or sends. It sends on
// delivered when the server has acted, unless that is nil. Closing the proxy ends it;
// a request that was not released by then never reaches the server.
func Late(code int, release <-chan struct{}, delivered chan<- struct{}) Action {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		dismiss(w, http.StatusText(code), code, nil)
		deliver(r, server, release, delivered)
	}
}

// Twice hands the request on and answers as the server does, and then hands the same
// request on once more, as [Late] does.
func Twice(release <-chan struct{}, delivered chan<- struct{}) Action {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		first := act(r, server)
		dismiss(w, first.Body.String(), first.Code, first.Header())
		r.Body = io.NopCloser(bytes.NewReader(body))
		deliver(r, server, release, delivered)
	}
}

// dismiss answers and takes the connection from the client, which so does not wait
// for the handler to return. Then only the proxy ends the request's context.
func dismiss(w http.ResponseWriter, body string, code int, header http.Header) {
	whole := http.Header{}
	if header != nil {
		whole = header.Clone()
	}
	whole.Set("Connection", "close")
	whole.Set("Content-Length", strconv.Itoa(len(body)))
	answer(w, code, whole, body)
	control := http.NewResponseController(w)
	if err := control.Flush(); err != nil {
		panic(http.ErrAbortHandler)
	}
	conn, _, err := control.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	conn.Close()
}

// deliver hands a request on, as soon as it is released, for nobody to see the answer.
// The request's own context may have ended with the client's connection.
func deliver(r *http.Request, server http.Handler, release <-chan struct{}, delivered chan<- struct{}) {
	r = r.WithContext(r.Context().Value(open{}).(context.Context))
	select {
	case <-release:
	case <-r.Context().Done():
		return
	}
	act(r, server)
	if delivered == nil {
		return
	}
	select {
	case delivered <- struct{}{}:
	case <-r.Context().Done():
	}
}
