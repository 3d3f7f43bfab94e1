package matrix

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"maunium.net/go/mautrix"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/session"
)

// What errors.Is finds in an [Error].
var (
	// ErrClosed: the memory was closed.
	ErrClosed = commit.ErrClosed
	// ErrUnknownRoom: there is no such room, or the bot is not in it.
	ErrUnknownRoom = session.ErrUnknownRoom
	// ErrForbidden: the homeserver does not let the bot read or write there, for
	// instance because its power level is too low.
	ErrForbidden = errors.New("forbidden")
	// ErrTooLarge: the value, or the dictionary with it, does not fit in an event.
	// Nothing was sent, and nothing else is affected.
	ErrTooLarge = commit.ErrTooLarge
	// ErrUndecryptable: the value was sent encrypted, and its key is missing or
	// unusable.
	ErrUndecryptable = errors.New("undecryptable")
	// ErrNoEncryption: the room is encrypted and should_encrypt is on, or the value
	// was sent encrypted, but encryption is not enabled: see package e2ee.
	ErrNoEncryption = errors.New("encryption is not enabled")
)

var errNotOpen = errors.New("the memory is not open: hand it to joe.New or call Open first")

// An Error says what a [Memory] or a [Room] could not do. With errors.Is it can
// be told apart by the sentinels above; with errors.As the homeserver's own
// answer is reached, a mautrix.RespError, if it is the homeserver that refused.
type Error struct {
	Op   string // "set", "get", "delete", "keys", "open" or "bind"
	Room string // the room's ID, or how it was called if it could not be found
	Key  string // "" if the operation is about no key in particular
	Err  error
}

func (e *Error) Error() string {
	var text strings.Builder
	text.WriteString("matrix memory: " + e.Op)
	if e.Op == "set" || e.Op == "get" || e.Op == "delete" {
		fmt.Fprintf(&text, " %q", e.Key)
	}
	if e.Room != "" {
		text.WriteString(" in room " + e.Room)
	}
	return text.String() + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// explain adds the sentinel that fits a homeserver's answer.
func explain(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrForbidden), errors.Is(err, ErrUnknownRoom), errors.Is(err, ErrTooLarge), errors.Is(err, ErrUndecryptable):
		return err
	case errors.Is(err, session.ErrClosed):
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

// invalid says that the homeserver refused an event on account of its content.
func invalid(err error) bool {
	return session.IsStatus(err, http.StatusBadRequest) || session.IsStatus(err, http.StatusRequestEntityTooLarge)
}
