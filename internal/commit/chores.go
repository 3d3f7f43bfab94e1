package commit

import (
	"context"
	"fmt"

	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// chores does what the replica needs done, until it needs nothing more or
// nothing more can be done now. Callers wait for writes, so these come first.
func (q *Queue) chores() {
	for progress := true; progress; {
		progress = false
		for _, task := range q.room.Todo() {
			if q.ctx.Err() != nil || q.busy() {
				return
			}
			progress = q.chore(task) || progress
		}
	}
}

// chore does one task and reports whether that may have changed what is to be done.
func (q *Queue) chore(task replica.Task) (progress bool) {
	ctx, cancel := context.WithTimeout(q.ctx, q.timeout)
	defer cancel()
	switch {
	case task.Read:
		err := q.refresh(ctx, task.StateKey)
		q.report(task.StateKey, "reading the state event again, as it may have changed", err)
		return err == nil
	case task.Copy:
		q.report(task.StateKey, "copying the memory from the older event type", q.amend(ctx, task))
	case task.Restore:
		q.report(task.StateKey, "restoring what two writers at once had lost", q.amend(ctx, task))
	}
	return true
}

func (q *Queue) report(stateKey, what string, err error) {
	if err != nil {
		q.env.Failed(stateKey, fmt.Errorf("%s: %w", what, err))
	}
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
	if !task.Copy && wire.Equal(content, base.Content()) {
		q.room.Abort(task.StateKey)
		return nil
	}
	if size, limit := wire.CanonicalSize(content), q.env.Limit(task.StateKey); size > limit {
		q.room.Abort(task.StateKey)
		return &TooLargeError{Size: size, Limit: limit, Keys: len(base.Entries)}
	}
	_, err = q.put(ctx, task.StateKey, base, changes, nil)
	return err
}
