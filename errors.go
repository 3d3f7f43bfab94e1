package matrix

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/go-joe/matrix-memory/internal/room"
)

// What errors.Is finds in an [Error].
var (
	// ErrClosed: the memory was closed.
	ErrClosed = room.ErrClosed
	// ErrUnknownRoom: there is no such room, or the bot is not in it.
	ErrUnknownRoom = room.ErrUnknownRoom
	// ErrForbidden: the homeserver does not let the bot read or write there, for
	// instance because its power level is too low.
	ErrForbidden = room.ErrForbidden
	// ErrTooLarge: the value, or the dictionary with it, does not fit in an event.
	// Nothing was sent, and nothing else is affected.
	ErrTooLarge = room.ErrTooLarge
	// ErrUnknownOutcome: the homeserver may have stored the change or not, as it did not
	// answer in time, or not in a way that settles it, and it may do so later. The
	// memory asks what stands in the room, and until it finds the change there, or sync
	// brings it, Get returns what was there before. A change of the same key that is
	// acknowledged later counts, whenever the first one arrives; with a state event for
	// each key only as long as the process runs, and if it is not one back to the value
	// from before. With Config.Journal it also says that the disk failed, so that the next
	// start may deliver the change, or an older one of the key. Making the same change again
	// does no harm. A change that failed with any other error was not stored.
	ErrUnknownOutcome = room.ErrUnknownOutcome
	// ErrUndecryptable: the value was sent encrypted, and its key is missing or
	// unusable.
	ErrUndecryptable = room.ErrUndecryptable
	// ErrUpgraded: another room has taken the room's place, and the memory did not go along;
	// the error says why, and what to do. Nothing was stored; Get goes on answering.
	ErrUpgraded = room.ErrUpgraded
	// ErrNoEncryption: the room is encrypted and should_encrypt is on, or the value
	// was sent encrypted, but encryption is not enabled: see package e2ee.
	ErrNoEncryption = room.ErrNoEncryption
)

var errNotOpen = errors.New("the memory is not open: hand it to joe.New or call Open first")

// An Error says what a [Memory] or a [Room] could not do. With errors.Is it can
// be told apart by the sentinels above; with errors.As the homeserver's own
// answer is reached, a mautrix.RespError, if it is the homeserver that refused.
type Error struct {
	Op   string // "set", "get", "delete", "keys", "flush", "open" or "bind"
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

// undecoded is a decoder's error without its words, which may quote the value.
type undecoded struct {
	target any
	err    error
}

func (u *undecoded) Error() string {
	text := fmt.Sprintf("decoding the value into a %T: ", u.target)
	var unfit *json.UnmarshalTypeError
	var broken *json.SyntaxError
	switch {
	case errors.As(u.err, &unfit):
		kind, _, _ := strings.Cut(unfit.Value, " ") // of a number, Value has the digits as well
		text += fmt.Sprintf("a JSON %s is no Go %s", kind, unfit.Type)
		if unfit.Field != "" {
			text += ", in " + unfit.Field
		}
		return text
	case errors.As(u.err, &broken):
		return text + fmt.Sprintf("it is no JSON, at byte %d", broken.Offset)
	}
	return text + fmt.Sprintf("%T", u.err)
}

func (u *undecoded) Unwrap() error { return u.err }

// fail returns the [Error] of an operation on a room, or nil if err is nil. Where the
// operation was about several keys, the one that failed takes key's place.
func fail(op, where, key string, err error) error {
	if err == nil {
		return nil
	}
	var failed *room.KeyError
	if errors.As(err, &failed) {
		key, err = failed.Key, failed.Err
	}
	return &Error{Op: op, Room: where, Key: key, Err: err}
}
