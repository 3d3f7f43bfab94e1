package room

import (
	"errors"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/journal"
)

// told is what was said of a change that is refused.
type told struct {
	seq  uint64
	kind error
}

// kindOf tells apart why changes are refused. Who was taken out of a room is told so in two
// ways: by the homeserver that refuses, and, once sync has said it, without asking.
func kindOf(err error) error {
	if unusable(err) {
		return ErrForbidden
	}
	for _, kind := range []error{ErrTooLarge, ErrNoEncryption} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return commit.ErrRefused
}

// tells notes why a change is refused, and says whether that is news.
func (r *Room) tells(change commit.Change, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := told{change.Seq, kindOf(err)}
	before := r.told[change.Key]
	r.told[change.Key] = now
	return before != now
}

// retry has what was refused delivered that may work by now: all of it where more has changed
// than the memory, else what did not fit.
func (r *Room) retry(all bool) {
	if r.rooms.Journal == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if all {
		r.retries++
	}
	if len(r.told) == 0 {
		return
	}
	r.rooms.Journal.Retry(r.id.String(), func(c journal.Change) bool { return all || r.told[c.Key] == told{c.Seq, ErrTooLarge} })
	r.rooms.flusher.wake()
}

// retried says how often all that is refused was to be tried again.
func (r *Room) retried() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.retries
}

// finished drops what was said of changes that are done.
func (r *Room) finished(seqs map[string]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, seq := range seqs {
		if r.told[key].seq <= seq {
			delete(r.told, key)
		}
	}
}
