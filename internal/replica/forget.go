package replica

import (
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

const (
	// maxEvents is how many events are remembered as they are. Of older ones only what
	// they said of each key is.
	maxEvents = 32
	// maxPast is how many forgotten events are known again.
	maxPast = 256
	// maxDeleted is how many deleted keys are remembered.
	maxDeleted = 10_000
)

// forget keeps only the last events as they are. That changes nothing of what all say.
func (m *meaning) forget() {
	if len(m.events) <= maxEvents {
		return
	}
	m.mean()
	for len(m.events) > maxEvents {
		m.fold(m.events[0])
	}
	m.forgetDeleted()
}

// fold keeps what an event said, and forgets it.
func (m *meaning) fold(e *event) {
	m.freeze(e)
	m.unsure = max(m.unsure, e.unsure())
	m.torn = m.torn || e.acked || m.lacks(e)
	m.kept.take(e, e.reading)
	m.events = m.events[1:]
	delete(m.byID, e.id)
	if !e.partial { // else it may still tell what it replaced
		m.past = keep(m.past, e.id, maxPast)
	}
}

// freeze keeps what those events say that follow from e.
func (m *meaning) freeze(e *event) {
	for _, o := range m.events {
		if o != e && !o.frozen && (o.replaces == e.id || o.reading.base == e) {
			frozen := *o.reading
			frozen.base = nil
			o.frozen, o.reading = true, &frozen
		}
	}
}

// redact takes away what an event said alone, as far as that is known. It reports whether
// it said anything.
func (k *knowledge) redact(id string) (said bool) {
	for key, one := range k.keys {
		if one.stamped && one.from == id && one.value.Raw != nil {
			delete(k.keys, key)
			said = true
			continue
		}
		before := len(one.weak)
		one.weak = slices.DeleteFunc(one.weak, func(w weak) bool { return w.at.ID == id && w.value.Raw != nil })
		said = said || len(one.weak) < before
	}
	return said
}

// forgetDeleted keeps the latest of the deleted keys.
func (m *meaning) forgetDeleted() {
	kept := m.kept.keys
	if len(kept) <= maxDeleted {
		return
	}
	var deleted []string
	for key, k := range kept {
		if k.entry().Raw == nil {
			deleted = append(deleted, key)
		}
	}
	if len(deleted) <= maxDeleted {
		return
	}
	slices.SortFunc(deleted, func(a, b string) int { return kept[a].at.Compare(kept[b].at) })
	deleted = deleted[:len(deleted)-maxDeleted*9/10] // more than need be, as all is worked out anew then
	last := kept[deleted[len(deleted)-1]].at
	m.kept.absent.weaken(weak{floor: last.Depth, at: wire.Stamp{Depth: m.depth, ID: last.ID}})
	for _, key := range deleted {
		delete(kept, key)
	}
	m.worked = false
}
