package session

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"

	"maunium.net/go/mautrix"
)

// hopeless returns what to do about a failure that no waiting helps against, with the failure
// itself, or nil. It is for a session that is being opened: where the homeserver has
// answered once, the settings are right, and what is wrong may pass.
func hopeless(err error) error {
	var elsewhere *redirect
	var certificate *tls.CertificateVerificationError
	var name *net.DNSError
	var greeting tls.RecordHeaderError
	var failure mautrix.HTTPError
	advice := ""
	switch {
	case errors.As(err, &elsewhere):
		return elsewhere
	case errors.As(err, &certificate):
		advice = "the server needs a certificate for the name in homeserver, from an authority that this machine, or the http.Client of WithHTTPClient, trusts"
	case errors.As(err, &name) && name.IsNotFound && !name.IsTemporary:
		advice = "is the name in homeserver right?"
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &greeting):
		advice = "that port does not speak https: does homeserver have the right port, or should it begin with http://?"
	case errors.As(err, &failure) && failure.IsStatus(http.StatusBadRequest) && isPage(failure) && failure.Request.URL.Scheme == "http":
		advice = "a port for https answers that to http: should homeserver begin with https://?"
	default:
		return nil
	}
	return fmt.Errorf("%w: %s", err, advice)
}

// unsent says whether a request that failed never reached anybody.
func unsent(err error) bool {
	var op *net.OpError
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &certificate) || errors.Is(err, http.ErrSchemeMismatch)
}
