package room

import (
	"context"
	"fmt"
	"iter"

	"github.com/go-joe/matrix-memory/internal/replica"
)

// History returns the changes of a key that the room's own events tell of, the latest first. An error with a
// change is about its value, which can't be read; one without ends the history.
func (r *Room) History(ctx context.Context, key string) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		r := r.latest()
		history, from := r.replica.History(key), ""
		for {
			changes, next, err := r.pastChanges(ctx, history, from)
			if err != nil {
				if ctx.Err() == nil {
					yield(Change{}, explain(err))
				}
				return
			}
			for _, c := range changes {
				change := r.heard(c)
				err := change.read(ctx)
				if ctx.Err() != nil || !yield(change, err) {
					return
				}
			}
			if next == "" {
				return
			}
			from = next
		}
	}
}

// pastChanges reads one page of the room's events, and returns the changes that these decide, and from where to go on;
// "" at the end.
func (r *Room) pastChanges(ctx context.Context, history *replica.History, from string) (changes []replica.Change, next string, err error) {
	b := NewBudget(ctx, r.rooms.Timeout)
	defer b.End()
	if err := r.rooms.Session.Answers(b.Context()); err != nil {
		return nil, "", err
	}
	events, next, err := r.rooms.Session.EarlierEvents(b.Context(), r.id, from)
	if err != nil {
		return nil, "", fmt.Errorf("reading the room's history: %w", r.expelled(b.Context(), err))
	}
	changes = history.Add(r.take(events))
	if next == "" {
		changes = append(changes, history.End()...)
	}
	return changes, next, nil
}
