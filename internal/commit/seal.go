package commit

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// An early is where the value of a change of the journal was sent encrypted before that was
// delivered, so that the next attempt points there, too.
type early struct {
	seq     uint64 // of the change
	eventID string
	doubted bool // something that was sent may point there
}

// seal sends the values that go out encrypted, several in one event as far as
// they fit, but for those of the journal's changes that were sent by an earlier attempt. It
// returns what is to stand in the state for every changed key, and the events that were sent
// for nobody but this attempt, also if it fails. Only the first of them may be held back.
func (q *Queue) seal(ctx, idle context.Context, m *merge, journal []*part) (raws map[string]json.RawMessage, sent []string, err error) {
	raws = make(map[string]json.RawMessage, len(m.changes))
	seqs := make(map[string]uint64, len(journal))
	for _, p := range journal {
		seqs[p.changes[0].Key] = p.changes[0].Seq
	}
	var secret []string
	for key, setting := range m.changes {
		before, ok := q.early[key]
		switch {
		case !setting.seal:
			raws[key] = setting.raw
		case ok && before.seq == seqs[key]:
			raws[key] = wire.EncodePointer(before.eventID)
		default:
			secret = append(secret, key)
		}
	}
	slices.Sort(secret)
	for len(secret) > 0 {
		size, n := 0, 0
		values := make(map[string]json.RawMessage)
		for _, key := range secret {
			change := m.changes[key]
			if size += memberSize(m.base.Name(key), change); n > 0 && size+2 > m.sealLimit {
				break
			}
			values[key] = change.raw
			n++
		}
		content := wire.Dictionary{}.NamedAs(m.base).With(values).Content()
		eventID, err := q.env.Seal(ctx, idle, content)
		if err != nil {
			return nil, sent, err
		}
		idle = nil
		again := false
		for _, key := range secret[:n] {
			raws[key] = wire.EncodePointer(eventID)
			if seq, ok := seqs[key]; ok {
				q.settle(key)
				q.early[key] = early{seq: seq, eventID: eventID}
				again = true
			}
		}
		if !again {
			sent = append(sent, eventID)
		}
		secret = secret[n:]
	}
	return raws, sent, nil
}

// settle gives up the event with the value of a change that is not to be attempted again, unless
// something points there.
func (q *Queue) settle(key string) {
	e, ok := q.early[key]
	delete(q.early, key)
	shared := slices.ContainsFunc(slices.Collect(maps.Values(q.early)), func(other early) bool { return other.eventID == e.eventID })
	if ok && !e.doubted && !shared && !q.room.Points(e.eventID) {
		q.gone([]string{e.eventID})
	}
}

// settleAll does so for all keys.
func (q *Queue) settleAll() {
	for key := range q.early {
		q.settle(key)
	}
}

// pointed notes that a content with these entries was stored, or may have been.
func (q *Queue) pointed(raws map[string]json.RawMessage, doubted bool) {
	for key, raw := range raws {
		e, ok := q.early[key]
		here := ok && string(raw) == string(wire.EncodePointer(e.eventID))
		switch {
		case here && doubted:
			e.doubted = true
			q.early[key] = e
		case here:
			delete(q.early, key)
		case ok && !doubted:
			q.settle(key)
		}
	}
}
