package replica

import "github.com/go-joe/matrix-memory/internal/wire"

// A History tells from a room's events, the latest first, which of them have changed a key.
//
// A dictionary that a memory wrote says by its stamps whether it changed the key; what it holds may be what others
// had set, written once more. Of all other events it is told by what stood there before.
type History struct {
	layout   wire.Layout
	stateKey string
	key      string

	later  *event          // the last event that was taken, of which it is not decided yet whether it changed the key
	writes map[string]bool // that were told of: a request may have been acted upon twice
}

// History returns the history of a key, of which nothing is known.
func (r *Room) History(key string) *History {
	return &History{layout: r.layout, stateKey: r.StateKey(key), key: key, writes: make(map[string]bool)}
}

// Add takes earlier events, the latest of them first, and returns the changes that these decide, the latest first.
func (h *History) Add(events []Event) (changes []Change) {
	for _, e := range events {
		if e.StateKey != h.stateKey {
			continue
		}
		one := newEvent(h.layout, e, true)
		if one.blank { // what it said is gone, or was nothing
			continue
		}
		changes = append(changes, h.decide(one)...)
		h.later = one
	}
	return changes
}

// End says that there are no earlier events, or that these can't be had.
func (h *History) End() []Change { return h.decide(nil) }

// decide returns the change that the last event made, if it made one; before is what stood there before.
func (h *History) decide(before *event) []Change {
	e := h.later
	if e == nil {
		return nil
	}
	entry := e.dict.Entries[h.key]
	var was wire.Entry
	if before != nil {
		was = before.dict.Entries[h.key]
	}
	if !h.changed(e, before, !same(entry, was)) {
		return nil
	}
	return []Change{{Key: h.key, Entry: entry, EventID: e.id, Sender: e.sender, Time: e.time}}
}

// changed says whether an event has changed the key, which may hold something else than it did before.
func (h *History) changed(e, before *event, differs bool) bool {
	if !e.fits || h.layout.PerKey {
		return differs
	}
	at, stamped := e.write.Keys[h.key]
	switch {
	case stamped && at.ID == e.write.ID:
		told := h.writes[at.ID]
		h.writes[at.ID] = true
		return !told
	case stamped:
		return before == nil && !h.writes[at.ID] && differs // it was changed before what can be had
	default: // it has more changes than stamps, or there was none, or another event came between
		return differs && (before == nil || e.write.Floor == e.write.Depth)
	}
}
