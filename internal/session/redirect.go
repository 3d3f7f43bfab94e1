package session

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// maxRedirects is how many redirects of one request are followed: as many as
// net/http does.
const maxRedirects = 10

// A redirect is one that is not followed.
type redirect struct{ from, to string }

func (r *redirect) Error() string {
	if r.to == "" {
		return r.from + " redirects over and over"
	}
	return fmt.Sprintf("%s redirects to %s: if that is the homeserver, put it into homeserver", r.from, r.to)
}

// A policy is an http.Client's CheckRedirect.
type policy = func(next *http.Request, via []*http.Request) error

// follow returns a policy that follows a redirect with the request's own method and body,
// where may allows it and then does. net/http would make a GET of a PUT or POST, whose
// answer says nothing of what was to be done.
func follow(may func(from, to *url.URL) bool, then policy) policy {
	return func(next *http.Request, via []*http.Request) error {
		first, last := via[0], via[len(via)-1]
		switch {
		case len(via) > maxRedirects:
			return &redirect{from: baseURL(first.URL)}
		case !may(last.URL, next.URL):
			return &redirect{baseURL(last.URL), baseURL(next.URL)}
		}
		next.Method = first.Method
		if first.GetBody != nil {
			body, err := first.GetBody()
			if err != nil {
				return err
			}
			next.Body, next.GetBody, next.ContentLength = body, first.GetBody, first.ContentLength
			next.Header["Content-Type"] = first.Header["Content-Type"]
		}
		if then == nil {
			return nil
		}
		return then(next, via)
	}
}

// SameHost is an http.Client's CheckRedirect that keeps tokens, passwords and keys on the
// homeserver's host, as a session does.
var SameHost = follow(sameHost, nil)

// Lookup is one for .well-known, which holds no secret and may redirect anywhere that is as safe.
var Lookup = follow(asSafe, nil)

// noting returns a policy that says once where the homeserver redirects to, if the program's
// own policy, which may be nil, lets that be followed.
func (s *Session) noting(own policy) policy {
	return func(next *http.Request, via []*http.Request) error {
		if own != nil {
			if err := own(next, via); err != nil {
				return err
			}
		}
		if from, to := baseURL(via[0].URL), baseURL(next.URL); from != to {
			s.redirected.Do(func() {
				s.Log.Warnf("%s redirects to %s, which costs a request each time: put that into homeserver", from, to)
			})
		}
		return nil
	}
}

// sameHost says whether the token, and what a request holds, may follow a redirect: to the
// same origin, or from http to https on the same host, where a certificate says whose it is.
func sameHost(from, to *url.URL) bool {
	if !strings.EqualFold(from.Hostname(), to.Hostname()) {
		return false
	}
	return from.Scheme == to.Scheme && port(from) == port(to) || from.Scheme == "http" && to.Scheme == "https"
}

// asSafe says whether what comes after a redirect can be trusted as much as without it.
func asSafe(from, to *url.URL) bool { return from.Scheme != "https" || to.Scheme == "https" }

func port(u *url.URL) string {
	switch port := u.Port(); {
	case port != "":
		return port
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

// baseURL returns the base URL of the server that a request goes to. What follows it can
// name memory keys.
func baseURL(u *url.URL) string {
	prefix, _, found := strings.Cut(u.EscapedPath(), "/_matrix/")
	if !found {
		prefix = ""
	}
	return u.Scheme + "://" + u.Host + prefix
}
