package room

import (
	"errors"
	"fmt"
	"net/http"

	"maunium.net/go/mautrix"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/journal"
	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/session"
)

// What can be told apart of what goes wrong in a room. Package matrix documents them.
var (
	ErrClosed         = commit.ErrClosed
	ErrUnknownRoom    = session.ErrUnknownRoom
	ErrForbidden      = errors.New("forbidden")
	ErrTooLarge       = commit.ErrTooLarge
	ErrUnknownOutcome = commit.ErrUnknownOutcome
	ErrUndecryptable  = errors.New("undecryptable")
	ErrNoEncryption   = errors.New("encryption is not enabled")
	ErrUpgraded       = errors.New("the room was upgraded")
)

// A KeyError says which of several keys an operation failed on.
type KeyError = commit.KeyError

// An unsettled change is one of which the file of a journal that failed may decide at the next start. It is an
// [ErrUnknownOutcome], whatever the homeserver said.
type unsettled struct {
	how string
	err error
}

func (u *unsettled) Error() string   { return "the journal failed: " + u.how + ": " + u.err.Error() }
func (u *unsettled) Unwrap() []error { return []error{ErrUnknownOutcome, u.err} }

// explain adds the sentinel that fits a homeserver's answer.
func explain(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrUpgraded), errors.Is(err, ErrForbidden), errors.Is(err, ErrUnknownRoom), errors.Is(err, ErrTooLarge), errors.Is(err, ErrUndecryptable):
		return err
	case errors.Is(err, session.ErrClosed), errors.Is(err, journal.ErrClosed):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case session.IsStatus(err, http.StatusForbidden):
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	case session.IsStatus(err, http.StatusRequestEntityTooLarge), errors.Is(err, mautrix.MTooLarge):
		return fmt.Errorf("%w, says the homeserver: %w", ErrTooLarge, err)
	case errors.Is(err, replica.ErrNotLoaded):
		return fmt.Errorf("%w: the bot is no longer in it: %w", ErrUnknownRoom, err)
	case session.IsStatus(err, http.StatusNotFound):
		return fmt.Errorf("%w: %w", ErrUnknownRoom, err)
	default:
		return err
	}
}

// unusable says that the bot is not in a room, or may not read it.
func unusable(err error) bool {
	return !errors.Is(err, ErrUpgraded) && (errors.Is(err, ErrUnknownRoom) || errors.Is(err, ErrForbidden))
}

// invalid says that the homeserver refused an event on account of its content.
func invalid(err error) bool {
	return session.IsStatus(err, http.StatusBadRequest) || session.IsStatus(err, http.StatusRequestEntityTooLarge)
}
