package commit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-joe/matrix-memory/internal/replica"
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
	// What somebody waits for comes first, also what came meanwhile; but one more of the
	// journal's is stored in between, so that steady writes don't keep them all from it.
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(rank(parts[a]), rank(parts[b])) })
	alone := slices.IndexFunc(order, func(stateKey string) bool { return rank(parts[stateKey]) > 0 })
	for i, stateKey := range order {
		if alone >= 0 && i > alone && q.waitedFor() {
			for _, stateKey := range order[i:] {
				q.postpone(parts[stateKey])
			}
			return
		}
		q.store(stateKey, parts[stateKey])
	}
}

// store commits parts that concern the same state event together.
func (q *Queue) store(stateKey string, parts []*part) {
	ctx, cancel := q.latest(parts)
	defer cancel()

	inOrder(parts)
	for asked, stands := false, false; ; asked = true {
		var err error
		if parts, err = q.judge(ctx, stateKey, parts); err != nil {
			q.finish(parts, err)
			return
		}
		if parts = q.begin(parts); len(parts) == 0 {
			return
		}
		if parts, stateKey = q.moved(parts); len(parts) == 0 {
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
		var later []*part
		if parts, later = m.addAll(q, parts); len(parts) == 0 {
			return
		}
		journal, _ := apart(parts)
		switch {
		case len(journal) > 0 && (len(later) > 0 || !fresh(journal)): // a later attempt than others that may arrive yet, also where it changes nothing
			q.hold(later)
			q.send(ctx, stateKey, parts, m)
			if len(later) > 0 {
				q.store(stateKey, later)
			}
			return
		case len(m.changes) > 0, asked && !stands, forced(parts), slices.ContainsFunc(m.touched(), func(key string) bool { return q.doubted[key] }):
			q.send(ctx, stateKey, parts, m)
			return
		case asked:
			q.finish(parts, nil)
			return
		}
		// All is there already, as far as is known here.
		q.hold(parts)
		if stands, err = q.ask(ctx, stateKey, m.touched()); err != nil {
			q.finish(parts, err)
			return
		}
	}
}

// forced says whether a change has to be sent whatever stands there.
func forced(parts []*part) bool {
	return slices.ContainsFunc(parts, func(p *part) bool { return slices.ContainsFunc(p.changes, func(c Change) bool { return c.Forced }) })
}

// fresh says of changes of the journal that none of the same keys may arrive that was sent by a process
// before this one; of those of this one it is known.
func fresh(journal []*part) bool {
	return !slices.ContainsFunc(journal, func(p *part) bool { return !p.changes[0].Fresh || p.changes[0].Attempt != nil })
}

// moved returns the state key under which opsdroid may have put the parts' keys meanwhile. Where
// it is not the same for all, each change is stored by itself, and no part is left.
func (q *Queue) moved(parts []*part) ([]*part, string) {
	stateKey := q.room.StateKey(parts[0].changes[0].Key)
	elsewhere := func(c Change) bool { return q.room.StateKey(c.Key) != stateKey }
	if !slices.ContainsFunc(parts, func(p *part) bool { return slices.ContainsFunc(p.changes, elsewhere) }) {
		return parts, stateKey
	}
	q.hold(parts)
	for _, p := range parts {
		for _, one := range q.split(p) {
			q.store(q.room.StateKey(one.changes[0].Key), []*part{one})
		}
	}
	return nil, ""
}

// split makes a part for each change of one.
func (q *Queue) split(p *part) []*part {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := []*part{p}
	for _, change := range p.changes[1:] {
		all = append(all, &part{write: p.write, changes: []Change{change}})
	}
	p.changes = p.changes[:1]
	p.parts, p.left = append(p.parts, all[1:]...), p.left+len(all)-1
	return all
}

// send stores what was merged, and finishes the parts.
func (q *Queue) send(ctx context.Context, stateKey string, parts []*part, m *merge) {
	idle := untilWaitedFor(parts)
	var raws map[string]json.RawMessage
	var sealed []string
	err := q.interruptible(ctx, idle, func(ctx, idle context.Context) (err error) {
		raws, sealed, err = q.seal(ctx, idle, m, carried(parts))
		return err
	})
	if err != nil {
		q.gone(sealed)
		q.fail(parts, err)
		return
	}
	journal, others := apart(parts)
	first := sent(parts)
	draft, err := q.room.Draft(stateKey, raws, first, m.limit)
	if errors.Is(err, replica.ErrHeard) || err == nil && q.unclear(journal) {
		q.gone(sealed)
		q.hold(parts)
		q.store(stateKey, parts)
		return
	}
	if err != nil {
		q.gone(sealed)
		q.finish(parts, fmt.Errorf("not sent: %w", err))
		return
	}
	if q.room.Masked(stateKey, draft) {
		q.gone(sealed)
		if err := q.amend(ctx, nil, replica.Task{StateKey: stateKey}); err != nil { // somebody may wait for what follows
			q.finish(parts, fmt.Errorf("not sent: %w", err))
			return
		}
		q.hold(parts)
		q.store(stateKey, parts)
		return
	}
	if slices.ContainsFunc(slices.Collect(maps.Values(first)), func(a *replica.Attempt) bool { return a != nil }) {
		draft = draft.Repeated()
	}
	var outcome Outcome
	var unnoted error
	err = q.interruptible(ctx, idle, func(ctx, idle context.Context) (err error) {
		outcome, err = q.put(ctx, idle, stateKey, draft, m.encrypted, func() error {
			unnoted = q.note(stateKey, draft, carried(parts))
			return unnoted
		})
		return err
	})
	switch outcome {
	case Stored, Repeated, Unknown: // what was sent may be pointed at
		q.room.Loosen(stateKey, deleted(m.base, raws)...)
		q.doubt(m.touched(), outcome == Unknown)
		q.pointed(raws, outcome == Unknown)
	default:
		q.gone(sealed)
	}
	if outcome == Unknown && len(journal) > 0 && draft.Attempt().At == (wire.Stamp{}) {
		q.room.Missed() // only events tell what became of it
	}
	switch {
	case unnoted != nil:
		q.finish(journal, unnoted)
		if len(others) > 0 {
			q.hold(others)
			q.store(stateKey, others)
		}
	case outcome == Outdated && idle == nil:
		q.store(stateKey, parts)
	case outcome == Outdated:
		q.fail(parts, err)
	case outcome == Invalid && len(parts) > 1:
		// One of them spoils it for all, so those are halved that it may be among.
		half := len(parts) / 2
		q.store(stateKey, parts[:half])
		q.store(stateKey, parts[half:])
	default:
		q.finish(parts, err)
	}
}

// catchUp loads the room again where sync may have missed events.
func (q *Queue) catchUp(ctx context.Context, stateKey string) error {
	for q.room.Behind(stateKey) {
		if err := q.load(ctx); err != nil {
			return fmt.Errorf("not sent: %w", err)
		}
	}
	return nil
}

func (q *Queue) load(ctx context.Context) error {
	if err := q.env.Load(ctx); err != nil {
		return fmt.Errorf("reading again what stands in the room, as it may have changed: %w", err)
	}
	return nil
}

// ask asks what stands in the room, and reports whether the keys hold there what reads
// are answered from.
func (q *Queue) ask(ctx context.Context, stateKey string, keys []string) (stands bool, err error) {
	count := q.room.Count(stateKey)
	content, found, err := q.env.Standing(ctx, stateKey)
	if err != nil {
		return false, fmt.Errorf("asking what stands in the room: %w", err)
	}
	heard, stands := q.room.Answer(stateKey, content, found, count, keys)
	if !heard {
		q.room.Missed()
	}
	return stands, nil
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

// errEncrypted says that a room has become encrypted since a content was made for it.
var errEncrypted = errors.New("the room has become encrypted meanwhile")

// put stores a draft, and tells the replica. It is noted once it is about to be sent: what is
// held back is no attempt.
func (q *Queue) put(ctx, idle context.Context, stateKey string, draft replica.Draft, encrypted bool, note func() error) (Outcome, error) {
	noted := false
	eventID, outcome, err := q.env.Put(ctx, idle, stateKey, draft.Content, func() error {
		if now, _ := q.env.Encrypted(); now != encrypted {
			return errEncrypted
		}
		if noted {
			return nil
		}
		noted = true
		return note()
	})
	switch outcome {
	case Stored:
		q.room.Commit(stateKey, draft, eventID)
	case Repeated:
		q.room.Commit(stateKey, draft.Repeated(), eventID)
	case Invalid:
		err = refusal{err}
	case Unknown:
		q.room.Doubt(stateKey, draft)
		err = fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return outcome, err
}

// doubt notes whether a request may still arrive that changes keys, so that a later change
// of them has to be sent even if it changes nothing now.
func (q *Queue) doubt(keys []string, doubted bool) {
	for _, key := range keys {
		if doubted {
			q.doubted[key] = true
		} else {
			delete(q.doubted, key)
		}
	}
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
