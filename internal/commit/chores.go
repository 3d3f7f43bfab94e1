package commit

import (
	"context"
	"fmt"

	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// chores does what the replica needs done, until it needs nothing more or
// nothing more can be done now. Callers wait for writes, so these come first. It
// reports whether something failed.
func (q *Queue) chores() (failed bool) {
	for progress := true; progress; {
		progress, failed = false, false
		for _, task := range q.room.Todo() {
			if q.ctx.Err() != nil || q.busy() {
				return failed
			}
			if err := q.chore(task); err == nil {
				progress = true
			} else {
				failed = true
			}
		}
	}
	q.gone(q.room.Loose(false))
	return failed
}

// chore does one task.
func (q *Queue) chore(task replica.Task) (err error) {
	ctx, cancel := context.WithTimeout(q.ctx, q.timeout)
	defer cancel()
	what := "reading the state event again, as it may have changed"
	switch {
	case task.Read:
		err = q.refresh(ctx, task.StateKey)
	case task.Copy:
		what = "copying the memory from the older event type"
		err = q.amend(ctx, task)
	default:
		what = "restoring what two writers at once had lost"
		err = q.amend(ctx, task)
	}
	if err != nil && q.failsFirst() {
		q.env.Failed(task.StateKey, fmt.Errorf("%s: %w; it is tried again", what, err))
	}
	return err
}

// failsFirst says whether a chore that has failed is the first since all went well.
func (q *Queue) failsFirst() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := !q.failing
	q.failing = true
	return first
}

// refresh reads a state event and hands it to the replica.
func (q *Queue) refresh(ctx context.Context, stateKey string) error {
	q.room.Hold(stateKey)
	event, found, err := q.env.Read(ctx, stateKey)
	if err != nil {
		q.room.Abort(stateKey)
		return err
	}
	event.StateKey = stateKey
	return q.room.Refresh(event, found)
}

// amend stores what the replica asks for, if there is still anything to store.
func (q *Queue) amend(ctx context.Context, task replica.Task) error {
	base, changes, ok, err := q.room.Amend(task.StateKey)
	if err != nil || !ok {
		return err
	}
	content := base.With(changes).Content()
	if size, limit := wire.CanonicalSize(content), q.env.Limit(task.StateKey); size > limit {
		q.room.Abort(task.StateKey)
		return &TooLargeError{Size: size, Limit: limit, Keys: len(base.Entries)}
	}
	encrypted, _ := q.env.Encrypted() // what was in the clear stays so
	_, err = q.put(ctx, task.StateKey, base, changes, nil, encrypted)
	return err
}
