package session

import (
	"errors"
	"fmt"
	"mime"
	"net/http"

	"maunium.net/go/mautrix"
)

// What comes from the homeserver's URL need not be the homeserver's answer: a web server
// before it speaks for it while it is away, and in some networks a portal does that wants
// a login. An answer is JSON with a 2xx status that has what was asked for, or an error with
// an errcode: https://spec.matrix.org/v1.16/client-server-api/#standard-error-response
// Anything else is a page. It is tried again like a 502, and says nothing of rooms and
// permissions.

// isPage says whether what came is a page. A web server in front can say as well as a
// homeserver that requests come too fast, or that one is too large for it, which waiting
// does not change.
func isPage(failure mautrix.HTTPError) bool {
	if failure.Response == nil || failure.RespError != nil {
		return false
	}
	status := failure.Response.StatusCode
	return status != http.StatusTooManyRequests && status != http.StatusRequestEntityTooLarge
}

// A page is an error whose text tells of a page, and nothing of its content: what could not
// be decoded may hold values, and the decoder's words may quote them.
type page struct {
	error
	response *http.Response
}

func (p page) Error() string {
	kind := ""
	if name, _, err := mime.ParseMediaType(p.response.Header.Get("Content-Type")); err == nil {
		kind = " (" + name + ")"
	}
	lack := "an errcode"
	if status := p.response.StatusCode; status >= 200 && status < 300 {
		lack = "what was asked for"
	}
	return fmt.Sprintf("HTTP %d%s without %s, as from a web server in the homeserver's place", p.response.StatusCode, kind, lack)
}

func (p page) Unwrap() error { return p.error }

// asPage makes an error that a page has led to a page, unless it contains one.
func asPage(err error) error {
	var failure mautrix.HTTPError
	if !errors.As(err, &failure) || !isPage(failure) || failure.Message == unread || errors.As(err, new(page)) || errors.As(err, new(*redirect)) {
		return err
	}
	return page{err, failure.Response}
}

// unread is mautrix's message where a connection broke in the middle of an answer.
const unread = "failed to read response body"

// Missing is the error of an answer that lacks what was asked for.
func Missing(what string) error { return fmt.Errorf("the homeserver's answer has no %s", what) }

// IsStatus says whether an error is a homeserver's answer with this status. That it does not
// know a path, as where something in front changes it, says nothing of a room.
func IsStatus(err error, status int) bool {
	var failure mautrix.HTTPError
	return errors.As(err, &failure) && failure.IsStatus(status) && !isPage(failure) && !errors.Is(err, mautrix.MUnrecognized)
}
