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

	kept   *event          // the earliest so far that has the stamp of a change of which the write was not found
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
func (h *History) End() []Change { return append(h.decide(nil), h.unfound(nil)...) }

// unfound returns the change that was sent in vain first, so that its write is not there, once an earlier change or the end says so:
// it arrived with the first event that has its stamp.
func (h *History) unfound(earlier *event) []Change {
	e := h.kept
	h.kept = nil
	if e == nil || earlier != nil && (earlier.id == e.write.Keys[h.key].ID || earlier.fits && earlier.write.ID == e.write.Keys[h.key].ID) {
		return nil
	}
	return []Change{h.change(e)}
}

func (h *History) change(e *event) Change {
	return Change{Key: h.key, Entry: e.dict.Entries[h.key], EventID: e.id, Sender: e.sender, Time: e.time}
}

// decide returns the change that the last event made, if it made one; before is what stood there before.
func (h *History) decide(before *event) []Change {
	e := h.later
	if e == nil {
		return nil
	}
	if at, stamped := h.stamp(e); stamped && at.ID != e.write.ID {
		if h.kept != nil && h.kept.write.Keys[h.key] == at {
			h.kept = e
			return nil
		}
		changes := h.unfound(e)
		if !h.writes[at.ID] {
			h.kept = e
		}
		return changes
	}
	entry := e.dict.Entries[h.key]
	var was wire.Entry
	if before != nil {
		was = before.dict.Entries[h.key]
	}
	if !h.changed(e, before, !same(entry, was)) {
		return nil
	}
	return append(h.unfound(e), h.change(e))
}

// changed says whether an event has changed the key, which may hold something else than it did before.
func (h *History) changed(e, before *event, differs bool) bool {
	if !e.fits || h.layout.PerKey {
		return differs
	}
	switch at, stamped := h.stamp(e); {
	case stamped: // its own
		told := h.writes[at.ID]
		h.writes[at.ID] = true
		return !told
	default: // it has more changes than stamps, or there was none, or another event came between
		return differs && (before == nil || e.write.Floor == e.write.Depth)
	}
}

// stamp returns the stamp that a memory's dictionary has for the key.
func (h *History) stamp(e *event) (at wire.Stamp, stamped bool) {
	if e.fits && !h.layout.PerKey {
		at, stamped = e.write.Keys[h.key]
	}
	return at, stamped
}
