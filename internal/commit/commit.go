package commit

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// A part is the changes of one write that concern one state event.
type part struct {
	*write
	changes []Change
	existed int // how many of the keys to delete were there
}

// finish notes the result of a part, and wakes the caller after the last one.
func (p part) finish(err error) {
	switch {
	case err == nil:
		p.write.existed += p.existed
	case p.err == nil:
		p.err = err
	}
	if p.left--; p.left == 0 {
		close(p.done)
	}
}

// commit stores writes, one state event after the other.
func (q *Queue) commit(writes []*write) {
	var order []string
	parts := make(map[string][]part)
	for _, w := range writes {
		byEvent := make(map[string][]Change)
		for _, change := range w.changes {
			stateKey := q.room.StateKey(change.Key)
			if _, ok := byEvent[stateKey]; !ok && !slices.Contains(order, stateKey) {
				order = append(order, stateKey)
			}
			byEvent[stateKey] = append(byEvent[stateKey], change)
		}
		w.left = len(byEvent)
		if w.left == 0 {
			close(w.done)
		}
		for stateKey, changes := range byEvent {
			parts[stateKey] = append(parts[stateKey], part{write: w, changes: changes})
		}
	}
	for _, stateKey := range order {
		q.store(stateKey, parts[stateKey])
	}
}

// store commits parts that concern the same state event together.
func (q *Queue) store(stateKey string, parts []part) {
	ctx, cancel := q.latest(parts)
	defer cancel()

	for q.room.Stale(stateKey) {
		if err := q.refresh(ctx, stateKey); err != nil {
			finish(parts, fmt.Errorf("not sent: reading the state event again, to write upon what stands there: %w", err))
			return
		}
	}
	if parts = q.begin(parts); len(parts) == 0 {
		return
	}
	base, err := q.room.Begin(stateKey)
	if err != nil {
		finish(parts, fmt.Errorf("not sent: %w", err))
		return
	}
	m := q.merge(base, q.env.Limit(stateKey))
	parts = m.addAll(parts)
	if len(m.changes) == 0 {
		q.room.Abort(stateKey)
		finish(parts, nil)
		return
	}
	raws, sent, err := q.seal(ctx, m)
	if err != nil {
		q.room.Abort(stateKey)
		q.gone(sent)
		finish(parts, err)
		return
	}
	outcome, err := q.put(ctx, stateKey, base, raws, slices.Collect(maps.Keys(raws)))
	if outcome == Refused || outcome == Invalid {
		q.gone(sent)
	}
	if outcome == Invalid && len(parts) > 1 {
		// One of them spoils it for all: each on its own, as bbolt's Batch does.
		for _, p := range parts {
			q.store(stateKey, []part{p})
		}
		return
	}
	finish(parts, err)
}

// put stores the base with changes, and tells the replica and the environment.
// changed names the keys that a caller changed.
func (q *Queue) put(ctx context.Context, stateKey string, base wire.Dictionary, changes map[string]json.RawMessage, changed []string) (Outcome, error) {
	content := base.With(changes)
	eventID, outcome, err := q.env.Put(ctx, stateKey, content.Content())
	switch outcome {
	case Stored:
		q.room.Commit(stateKey, eventID, content, changed)
		q.removed(base, changes)
	case Unknown:
		q.room.Doubt(stateKey)
		err = fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	default:
		q.room.Abort(stateKey)
	}
	return outcome, err
}

// removed tells of the encrypted events that changes took out of the base, unless
// other entries point at them.
func (q *Queue) removed(base wire.Dictionary, changes map[string]json.RawMessage) {
	var gone []string
	for key := range changes {
		if pointer := base.Entries[key].Pointer; pointer != "" && !slices.Contains(gone, pointer) && !q.room.Points(pointer) {
			gone = append(gone, pointer)
		}
	}
	q.gone(gone)
}

// gone tells of encrypted events that no entry points at.
func (q *Queue) gone(eventIDs []string) {
	if len(eventIDs) > 0 {
		q.env.Removed(eventIDs)
	}
}

// finish gives all parts the same result.
func finish(parts []part, err error) {
	for _, p := range parts {
		p.finish(err)
	}
}

// latest returns a context that lasts as long as the longest of the parts'.
// A caller whose time is up before that stops waiting by itself.
func (q *Queue) latest(parts []part) (context.Context, context.CancelFunc) {
	last, _ := parts[0].ctx.Deadline()
	for _, p := range parts[1:] {
		if deadline, _ := p.ctx.Deadline(); deadline.After(last) {
			last = deadline
		}
	}
	return context.WithDeadline(q.ctx, last)
}
