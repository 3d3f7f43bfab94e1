package main

import (
	"io"
	"net/http"
	"regexp"
	"strings"
)

// A guard makes a connection's requests, and answers those itself that must not be made. A
// memory that is open mends what it finds, joins rooms and follows upgrades; one that is open
// for reading only must not.
type guard struct {
	http.RoundTripper
	purpose purpose
}

// changes matches the paths of requests that change rooms or the account.
var changes = regexp.MustCompile(`^/_matrix/client/[^/]+/(rooms/|join/|knock/|createRoom|room_keys/|keys/device_signing/|user/[^/]+/account_data/)|/account_data/`)

const refusal = `{"errcode":"M_FORBIDDEN","error":"matrix-memory only reads here: it joins no room and changes nothing"}`

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(request *http.Request) (*http.Response, error) {
	if g.purpose == writing || request.Method == http.MethodGet || !changes.MatchString(request.URL.Path) {
		return g.RoundTripper.RoundTrip(request)
	}
	if request.Body != nil {
		request.Body.Close()
	}
	return &http.Response{
		Status:     "403 Forbidden",
		StatusCode: http.StatusForbidden,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Body:          io.NopCloser(strings.NewReader(refusal)),
		ContentLength: int64(len(refusal)),
		Request:       request,
	}, nil
}
