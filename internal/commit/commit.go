package commit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// commit stores writes, one state event after the other.
func (q *Queue) commit(writes []*write) {
	var order []string
	parts := make(map[string][]*part)
	for _, w := range writes {
		byEvent := make(map[string]*part)
		var split []*part
		for _, change := range w.changes {
			stateKey := q.room.StateKey(change.Key)
			p, ok := byEvent[stateKey]
			if !ok {
				p = &part{write: w}
				byEvent[stateKey] = p
				split = append(split, p)
				if parts[stateKey] == nil {
					order = append(order, stateKey)
				}
				parts[stateKey] = append(parts[stateKey], p)
			}
			p.changes = append(p.changes, change)
		}
		q.mu.Lock()
		w.parts, w.left = split, len(split)
		q.mu.Unlock()
	}
	for _, stateKey := range order {
		q.store(stateKey, parts[stateKey])
	}
}

// store commits parts that concern the same state event together.
func (q *Queue) store(stateKey string, parts []*part) {
	ctx, cancel := q.latest(parts)
	defer cancel()

	for q.room.Stale(stateKey) {
		if err := q.refresh(ctx, stateKey); err != nil {
			q.finish(parts, fmt.Errorf("not sent: reading the state event again, to write upon what stands there: %w", err))
			return
		}
	}
	if parts = q.begin(parts); len(parts) == 0 {
		return
	}
	base, err := q.room.Begin(stateKey)
	if errors.Is(err, wire.ErrForeign) {
		parts = q.nothing(parts) // to delete there
	}
	if err != nil {
		q.finish(parts, fmt.Errorf("not sent: %w", err))
		return
	}
	m := q.merge(base, q.env.Limit(stateKey))
	parts = m.addAll(q, parts)
	if len(m.changes) == 0 {
		q.room.Abort(stateKey)
		q.finish(parts, nil)
		return
	}
	raws, sent, err := q.seal(ctx, m)
	if err != nil {
		q.room.Abort(stateKey)
		q.gone(sent)
		q.finish(parts, err)
		return
	}
	outcome, err := q.put(ctx, stateKey, base, raws, slices.Collect(maps.Keys(raws)), m.encrypted)
	switch outcome {
	case Stored:
		q.room.Loosen(stateKey, deleted(base, raws)...)
	case Unknown:
		q.room.Loosen(stateKey, append(deleted(base, raws), sent...)...)
	default:
		q.gone(sent)
	}
	switch {
	case outcome == Outdated:
		q.store(stateKey, parts)
	case outcome == Invalid && len(parts) > 1:
		// One of them spoils it for all: each on its own, as bbolt's Batch does.
		for _, p := range parts {
			q.store(stateKey, []*part{p})
		}
	default:
		q.finish(parts, err)
	}
}

// nothing finishes those parts that only delete, where there is nothing of the
// memory's to delete, and returns the others.
func (q *Queue) nothing(parts []*part) []*part {
	return slices.DeleteFunc(parts, func(p *part) bool {
		if slices.ContainsFunc(p.changes, func(c Change) bool { return !c.Delete }) {
			return false
		}
		q.finish([]*part{p}, nil)
		return true
	})
}

// put stores the base with changes, and tells the replica. changed names the keys
// that a caller changed.
func (q *Queue) put(ctx context.Context, stateKey string, base wire.Dictionary, changes map[string]json.RawMessage, changed []string, encrypted bool) (Outcome, error) {
	content := base.With(changes)
	eventID, outcome, err := q.env.Put(ctx, stateKey, content.Content(), encrypted)
	switch outcome {
	case Stored:
		q.room.Commit(stateKey, eventID, content, changed)
	case Unknown:
		q.room.Doubt(stateKey)
		err = fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	default:
		q.room.Abort(stateKey)
	}
	return outcome, err
}

// deleted returns the encrypted events that deleted keys pointed at. Those of keys
// that were overwritten stay: another writer who has not heard of the new value can
// bring the old pointer back, and its value must not be gone then.
func deleted(base wire.Dictionary, changes map[string]json.RawMessage) []string {
	var pointers []string
	for key, raw := range changes {
		if pointer := base.Entries[key].Pointer; raw == nil && pointer != "" {
			pointers = append(pointers, pointer)
		}
	}
	return pointers
}

// gone tells of encrypted events that no entry points at.
func (q *Queue) gone(eventIDs []string) {
	if len(eventIDs) > 0 {
		q.env.Removed(eventIDs)
	}
}

// latest returns a context that lasts as long as the longest of the parts'.
// A caller whose time is up before that stops waiting by itself.
func (q *Queue) latest(parts []*part) (context.Context, context.CancelFunc) {
	last, _ := parts[0].ctx.Deadline()
	for _, p := range parts[1:] {
		if deadline, _ := p.ctx.Deadline(); deadline.After(last) {
			last = deadline
		}
	}
	return context.WithDeadline(q.ctx, last)
}
