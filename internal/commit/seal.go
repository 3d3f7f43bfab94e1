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
	err = q.pack(ctx, idle, m.base, secret, m.changes, func(eventID string, keys []string) {
		again := false
		for _, key := range keys {
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
	})
	if err != nil {
		return nil, sent, err
	}
	return raws, sent, nil
}

// Seal sends values encrypted that are not set but taken along, several in one event as far as they fit, and tells of
// each what is to stand in the state for it. If it fails, some may have been sent.
func (q *Queue) Seal(ctx context.Context, values map[string]json.RawMessage, sealed func(key string, raw json.RawMessage)) error {
	settings := make(map[string]setting, len(values))
	for key, raw := range values {
		settings[key] = setting{raw: raw, seal: true, ours: true}
	}
	return q.pack(ctx, nil, wire.Dictionary{}, slices.Collect(maps.Keys(values)), settings, func(eventID string, keys []string) {
		for _, key := range keys {
			sealed(key, wire.EncodePointer(eventID))
		}
	})
}

// Seals says whether a value fits in an encrypted event.
func (q *Queue) Seals(key string, raw json.RawMessage) bool {
	return memberSize(wire.EncodeKey(key), setting{raw: raw, ours: true})+2 <= q.env.SealLimit
}

// pack sends the values of some keys encrypted, several in one event as far as they fit, and tells of each event
// which keys it holds. Only the first may be held back.
func (q *Queue) pack(ctx, idle context.Context, base wire.Dictionary, keys []string, settings map[string]setting, sent func(eventID string, keys []string)) error {
	slices.Sort(keys)
	for len(keys) > 0 {
		size, n := 0, 0
		values := make(map[string]json.RawMessage)
		for _, key := range keys {
			if size += memberSize(base.Name(key), settings[key]); n > 0 && size+2 > q.env.SealLimit {
				break
			}
			values[key] = settings[key].raw
			n++
		}
		eventID, err := q.env.Seal(ctx, idle, wire.Dictionary{}.NamedAs(base).With(values).Content())
		if err != nil {
			return err
		}
		sent(eventID, keys[:n])
		idle, keys = nil, keys[n:]
	}
	return nil
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
