package commit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/wire"
)

var (
	// ErrSuperseded says that a change was not sent, as somebody else's change of the key
	// counts.
	ErrSuperseded = errors.New("somebody else's change of the key counts")
	// ErrRefused says that a change can't be stored as it is, however often it is tried.
	ErrRefused = errors.New("refused")
)

// Deliver commits changes that a journal holds and that were acknowledged already, together
// with the writes that wait. It gives each its own result: nil once it counts, or once a later
// change of the bot's own does; [ErrSuperseded] or [ErrRefused]; else it stays to be delivered,
// and what was sent of it by then is an attempt. Nothing of it is under way any more when
// Deliver returns, which may be after the context is done, but not after the queue's timeout.
//
// idle is nil where somebody waits for it. Else it ends when somebody does, and what is held
// back then is to be delivered again. A write that is submitted meanwhile takes what is held back
// along, or goes first.
//
// No change of a key that the queue is to write through may be delivered after that write:
// who submits it takes the key's change out of the journal, or writes it through the journal
// as well.
func (q *Queue) Deliver(ctx, idle context.Context, changes ...Change) []error {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	writes := make([]*write, len(changes))
	for i, change := range changes {
		writes[i] = &write{ctx: ctx, idle: idle, changes: []Change{change}, journal: true, done: make(chan struct{})}
	}
	results := make([]error, len(changes))
	if !q.enqueue(writes...) {
		for i := range results {
			results[i] = ErrClosed
		}
		return results
	}
	for i, w := range writes {
		<-w.done
		_, err := q.result(w)
		results[i] = delivered(err)
	}
	return results
}

// delivered tells which errors say that it is no use to try again.
func delivered(err error) error {
	var key *KeyError
	if errors.As(err, &key) {
		err = key.Err
	}
	for _, lasting := range []error{ErrTooLarge, ErrUnreadable, wire.ErrForeign, wire.ErrMalformed} {
		if errors.Is(err, lasting) && !errors.Is(err, ErrRefused) {
			return refusal{err}
		}
	}
	return err
}

// A refusal is an [ErrRefused] that says no more than why.
type refusal struct{ error }

func (r refusal) Unwrap() error        { return r.error }
func (r refusal) Is(target error) bool { return target == ErrRefused }

// inOrder puts parts in the order in which they count: what the journal holds was changed
// before what somebody waits for.
func inOrder(parts []*part) {
	slices.SortStableFunc(parts, func(a, b *part) int {
		switch {
		case a.journal && b.journal:
			return cmp.Compare(a.changes[0].Seq, b.changes[0].Seq)
		case a.journal:
			return -1
		case b.journal:
			return 1
		}
		return 0
	})
}

// judge finishes those changes of the journal of which it is known by now what became
// of them, or over which somebody else's count, and returns the other parts.
func (q *Queue) judge(ctx context.Context, stateKey string, parts []*part) ([]*part, error) {
	for {
		if err := q.catchUp(ctx, stateKey); err != nil {
			return parts, err
		}
		if !q.room.Loaded() {
			return parts, fmt.Errorf("not sent: %w", replica.ErrNotLoaded)
		}
		unclear := false
		parts = slices.DeleteFunc(parts, func(p *part) bool {
			if !p.journal {
				return false
			}
			known, clear, err := q.verdict(p.changes[0])
			unclear = unclear || !clear
			if known {
				q.settle(p.changes[0].Key)
				q.finish([]*part{p}, err)
			}
			return known
		})
		if !unclear {
			return parts, nil
		}
		if q.room.Behind(stateKey) {
			continue
		}
		if _, err := q.ask(ctx, stateKey, nil); err != nil {
			journal, others := apart(parts)
			q.finish(journal, err)
			return others, nil
		}
	}
}

// unclear says whether a draft of changes of the journal could not tell what stood there
// before it.
func (q *Queue) unclear(journal []*part) bool {
	return slices.ContainsFunc(journal, func(p *part) bool { return q.room.Fate(p.changes[0].Key, nil) == replica.Unclear })
}

// verdict says whether it is known what becomes of a change of the journal that is not
// sent again, and what; clear is false if the homeserver has to be asked.
func (q *Queue) verdict(c Change) (known, clear bool, err error) {
	switch q.room.Fate(c.Key, c.Attempt) {
	case replica.Unclear:
		return false, false, nil
	case replica.Arrived:
		return true, true, nil
	case replica.Ours:
		if q.holds(c) {
			return true, true, nil
		}
	case replica.Replaced:
		if q.holds(c) {
			return true, true, nil
		}
		return true, true, ErrSuperseded
	}
	if !c.Delete || c.Forced || q.doubted[c.Key] {
		return false, true, nil
	}
	switch held := q.room.Held(c.Key); held {
	case c.Over:
		return false, true, nil
	case "":
		return true, true, nil
	}
	return true, true, ErrSuperseded
}

// holds says whether a key holds what a change makes of it.
func (q *Queue) holds(c Change) bool {
	base, err := q.room.Begin(q.room.StateKey(c.Key))
	if err != nil {
		return false
	}
	m := q.merge(base, 0)
	_, err = m.apply(c)
	return err == nil && len(m.changes) == 0
}

// sent says of each key that parts change with what that change was sent before, if it was.
func sent(parts []*part) map[string]*replica.Attempt {
	first := make(map[string]*replica.Attempt)
	for _, p := range parts {
		for _, c := range p.changes {
			first[c.Key] = c.Attempt
		}
	}
	return first
}

// carried returns those changes of the journal that a content of parts holds: where a
// later one changes the same key, the earlier one is not among them.
func carried(parts []*part) []*part {
	last := make(map[string]*part)
	for _, p := range parts {
		for _, c := range p.changes {
			last[c.Key] = p
		}
	}
	var carried []*part
	for _, p := range parts {
		if p.journal && last[p.changes[0].Key] == p {
			carried = append(carried, p)
		}
	}
	return carried
}

// note notes in the journal, if there is one, that a draft is about to be sent. Where that
// carries none of the journal's changes, it need not be known: after a start, depths begin far
// deeper, which is nearly always enough.
func (q *Queue) note(stateKey string, draft replica.Draft, carried []*part) error {
	if q.env.Attempted == nil {
		return nil
	}
	attempt := draft.Attempt()
	changes := make([]Change, len(carried))
	for i, p := range carried {
		changes[i] = p.changes[0]
	}
	if err := q.env.Attempted(stateKey, attempt, changes); err != nil && len(carried) > 0 {
		return fmt.Errorf("not sent, as the journal could not note that it is: %w", err)
	}
	for _, p := range carried {
		if p.changes[0].Attempt == nil {
			p.changes[0].Attempt = &attempt
		}
	}
	return nil
}

// apart tells the changes of the journal from the writes that somebody waits for.
func apart(parts []*part) (journal, others []*part) {
	for _, p := range parts {
		if p.journal {
			journal = append(journal, p)
		} else {
			others = append(others, p)
		}
	}
	return journal, others
}

// untilWaitedFor returns the idle of parts that are sent together; nil: somebody waits for them,
// or they gave way before.
func untilWaitedFor(parts []*part) context.Context {
	if slices.ContainsFunc(parts, func(p *part) bool { return p.idle == nil }) {
		return nil
	}
	return parts[0].idle
}

// rank says when parts have their turn: first what somebody waits for, then what gave way
// to that before, then the rest.
func rank(parts []*part) int {
	switch _, others := apart(parts); {
	case len(others) > 0:
		return 0
	case untilWaitedFor(parts) == nil:
		return 1
	}
	return 2
}

// waitedFor says whether writes wait that somebody waits for.
func (q *Queue) waitedFor() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(q.pending, func(w *write) bool { return !w.journal })
}

// postpone puts changes of the journal back to the writes that wait.
func (q *Queue) postpone(parts []*part) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range parts {
		p.parts, p.left = nil, 0
		q.pending = append(q.pending, p.write)
	}
}

// fail finishes parts of which nothing was sent. Changes of the journal that gave way to a
// write are postponed instead. They don't give way once more, so that steady writes don't keep
// them from being sent.
func (q *Queue) fail(parts []*part, err error) {
	if untilWaitedFor(parts) == nil || !q.waitedFor() {
		q.finish(parts, err)
		return
	}
	for _, p := range parts {
		p.idle = nil
	}
	q.postpone(parts)
}
