package main

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
)

// A guard makes a connection's requests, and answers those itself that must not be made. A
// memory that is open mends what it finds, joins rooms and follows upgrades; one that is open
// for reading must not. A device of the tool's own must not set up the account's encryption,
// as the keys would go with it.
type guard struct {
	http.RoundTripper
	purpose purpose
	visits  bool // as an encrypting device of the tool's own
}

var (
	// changesRoom matches the paths of requests that change a room or what the bot is in.
	changesRoom = regexp.MustCompile(`^/_matrix/client/[^/]+/(rooms|join|knock|createRoom|room_keys)(/|$)`)
	// changesAccount matches those that change what is kept of the account.
	changesAccount = regexp.MustCompile(`^/_matrix/client/[^/]+/(user/[^/]+/(rooms/[^/]+/)?account_data|keys/device_signing|room_keys/version)(/|$)`)
)

const (
	onlyReads   = "matrix-memory only reads here: it joins no room and changes nothing"
	keepAccount = "matrix-memory does not change the account's data; the bot sets up its encryption when it starts"
)

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(request *http.Request) (*http.Response, error) {
	path := request.URL.Path
	switch {
	case request.Method == http.MethodGet:
	case g.purpose == reading && changesRoom.MatchString(path):
		return refuse(request, onlyReads)
	case (g.purpose == reading || g.visits) && changesAccount.MatchString(path):
		return refuse(request, keepAccount)
	}
	return g.RoundTripper.RoundTrip(request)
}

// refuse answers a request as a homeserver that forbids it.
func refuse(request *http.Request, why string) (*http.Response, error) {
	if request.Body != nil {
		request.Body.Close()
	}
	body := fmt.Sprintf(`{"errcode":"M_FORBIDDEN","error":%q}`, why)
	return &http.Response{
		Status:     "403 Forbidden",
		StatusCode: http.StatusForbidden,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Body:          io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       request,
	}, nil
}
