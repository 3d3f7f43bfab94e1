package replica

import (
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// A meaning is what the events of one dictionary say together: key by key, the change
// with the greatest stamp. Neither the order in which events arrive nor which of them
// stands in the room enters into it. The room's lock owns it.
type meaning struct {
	layout wire.Layout
	events []*event // the last ones, oldest first as far as that is known
	byID   map[string]*event
	past   []string  // the last event IDs that are forgotten
	kept   knowledge // what forgotten events said
	all    knowledge // what all events say, once it is worked out
	worked bool      // it is
	depth  int64     // the greatest that was heard of
	unsure int64     // how deep forgotten events may be of which that can't be had
	torn   bool      // an event was forgotten of which it was not known what it replaced

	clash map[string]ruling     // where a stamp and a floor disagree, and older events would tell
	ruled map[string]ruling     // where the floor counts, as older events can't be had
	held  map[string]ruling     // where the stamp counts, as it was known before they were asked for
	known map[string]wire.Stamp // the stamps that were known before

	sought map[string]sought // by key
	copies map[string]int64  // events that say nothing, as they are copies of another room's, and how deep those were

	entries map[string]wire.Entry // what all mean, once it is asked for
}

// A ruling says that what events say without a stamp counts, and not a stamp.
type ruling struct {
	stamp wire.Stamp
	value wire.Entry
}

// unknownDepth is added to the depth where an event was built upon one that can't be had.
const unknownDepth = 1000

func newMeaning(layout wire.Layout) *meaning {
	return &meaning{layout: layout, byID: make(map[string]*event), kept: newKnowledge()}
}

// heard says whether an event is known, or was.
func (m *meaning) heard(id string) bool {
	e := m.byID[id]
	return e != nil && !e.partial || slices.Contains(m.past, id)
}

// add takes an event, and the one that it replaced as far as it tells of it. old says
// that it is older than those that are known. It returns nil if the event was forgotten.
func (m *meaning) add(e Event, old bool) *event {
	if have := m.byID[e.ID]; have != nil {
		emptied := string(e.Content) == "{}" && len(have.dict.Entries) > 0
		switch {
		case e.Redacted, emptied:
			m.redact(e.ID)
		case !e.Bare && (have.partial || have.acked || e.Replaces != "" && (have.guessed || have.replaces == "")):
			first := have.first()
			have.place(e, old)
			have.time = e.Time
			m.worked = m.worked && !first // else what was read of it would count for sure
			m.changed()
			m.before(e)
		}
		return have
	}
	if slices.Contains(m.past, e.ID) {
		if e.Redacted {
			m.redact(e.ID)
		}
		return nil
	}
	i := len(m.events)
	if old {
		i = 0
	}
	one := newEvent(m.layout, e, old)
	m.include(one, i)
	m.before(e)
	return one
}

// before takes the event that e replaced as far as e tells of it.
func (m *meaning) before(e Event) {
	before, ok := e.before()
	if have := m.byID[e.Replaces]; have != nil {
		have.bare = false
	} else if ok && !slices.Contains(m.past, before.ID) {
		one := newEvent(m.layout, before, true)
		one.partial, one.time = true, 0 // when that was is not told
		m.include(one, slices.Index(m.events, m.byID[e.ID]))
	}
}

// placed says whether it is known what an event replaced, or was.
func (m *meaning) placed(id string) bool {
	if e := m.byID[id]; e != nil {
		return !e.partial && !e.acked && !e.guessed
	}
	return slices.Contains(m.past, id)
}

// follows notes that by their order an event replaced another, or none, where nothing else
// tells.
func (m *meaning) follows(id, before string) {
	if e := m.byID[id]; e != nil && id != before && (e.guessed || e.partial) {
		e.replaces, e.guessed, e.partial, e.bare = before, false, false, false
		m.changed()
	}
}

// include takes an event that is not known.
func (m *meaning) include(e *event, i int) {
	if _, ok := m.copies[e.id]; ok {
		e.copied()
	}
	m.byID[e.id] = e
	m.events = slices.Insert(m.events, i, e)
	m.changed(e)
}

// changed works out what new events change, unless that may be how others are read.
func (m *meaning) changed(added ...*event) {
	if !m.worked {
		return
	}
	for _, e := range added {
		m.read(e)
	}
	if m.worked = m.settled(); !m.worked {
		return
	}
	for _, e := range added {
		m.depth = max(m.depth, e.reading.depth)
		m.all.take(e, e.reading)
	}
	m.resolve()
}

// redact takes away what an event says. What others said that were built upon it stays.
func (m *meaning) redact(id string) {
	if e := m.byID[id]; e != nil && !e.blank {
		m.mean()
		m.freeze(e)
		e.blank, e.fits, e.write, e.dict = true, false, nil, wire.Dictionary{}
		e.frozen, e.reading = true, &reading{depth: e.reading.depth, unsure: e.reading.unsure}
		m.worked = false
	}
	if m.kept.redact(id) {
		m.worked = false
	}
}

// mean works out what all events say together.
func (m *meaning) mean() map[string]*known {
	if m.worked {
		return m.all.keys
	}
	m.readAll()
	m.all = m.kept.clone()
	for _, e := range m.events {
		m.depth = max(m.depth, e.reading.depth)
		m.all.take(e, e.reading)
	}
	m.worked = true
	m.resolve()
	return m.all.keys
}

// resolve decides where what an event says without a stamp counts, and not a stamp.
func (m *meaning) resolve() {
	m.entries, m.clash = nil, make(map[string]ruling)
	ruled, held := make(map[string]ruling), make(map[string]ruling)
	whole := m.whole()
	for key, k := range m.all.keys {
		k.rules = false
		if !k.contested() {
			continue
		}
		one := ruling{k.at, k.weak[0].value}
		if before, ok := m.ruled[key]; ok && before.stamp == one.stamp && same(before.value, one.value) {
			k.rules, ruled[key] = true, one
		} else if before, ok := m.held[key]; ok && before.stamp == one.stamp && same(before.value, one.value) {
			held[key] = one
		} else if !whole { // else nothing that is missing could say otherwise
			m.clash[key] = one
		}
	}
	m.ruled, m.held = ruled, held
}

// whole says whether all events are known, or were.
func (m *meaning) whole() bool { return !m.torn && !slices.ContainsFunc(m.events, m.lacks) }

// recall notes what is known before older events are asked for.
func (m *meaning) recall() {
	m.known = make(map[string]wire.Stamp)
	for key, k := range m.mean() {
		if k.stamped && !k.rules {
			m.known[key] = k.at
		}
	}
}

// rule accepts that older events can't be had: what an event says without a stamp counts
// where its floor is not below the stamp, unless this memory knew the stamp before: what it
// knows stays. It returns the keys that this is about.
func (m *meaning) rule() (keys []string) {
	m.mean()
	for _, e := range m.events {
		e.lost = true
	}
	for key, one := range m.clash {
		if m.known[key] == one.stamp { // whoever wrote without it may not have heard of it
			m.held[key] = one
			continue
		}
		keys = append(keys, key)
		m.ruled[key] = one
	}
	m.known = nil
	m.resolve()
	keys = append(keys, m.giveUp()...)
	slices.Sort(keys)
	return keys
}

// wants says whether older events would tell more: where an event was not built upon
// what it replaced, as far as its author says, where a stamp and a floor disagree, and
// where it is not known whether an own change arrived.
func (m *meaning) wants() bool {
	m.mean()
	return len(m.clash) > 0 || len(m.missing()) > 0 || slices.ContainsFunc(m.events, func(e *event) bool {
		return !e.lost && (e.bare || e.replaces != "" && !e.frozen && (!e.fits || e.write.Base != e.replaces) && !m.heard(e.replaces))
	})
}

// unplaced returns the own events of which it is not known what they replaced. Sync
// tells, unless it leaves the event out.
func (m *meaning) unplaced() (ids []string) {
	for _, e := range m.events {
		if e.acked && !e.lost {
			ids = append(ids, e.id)
		}
	}
	return ids
}

// lacks says whether it is not known what an event replaced.
func (m *meaning) lacks(e *event) bool {
	return e.partial || e.replaces != "" && !m.heard(e.replaces)
}

// next returns the depth of a write that comes after all that was heard of.
func (m *meaning) next() int64 {
	m.mean()
	depth := max(m.depth+1, m.unsure)
	for _, e := range m.events {
		depth = max(depth, e.unsure())
	}
	return depth
}

// unsure returns the depth that a write has to have where nothing is known of the depth of
// what an event was built upon. An event that is known from what replaced it only has no
// say: that one does.
func (e *event) unsure() int64 {
	if !e.reading.unsure || e.partial && !e.bare {
		return 0
	}
	return e.reading.depth - 1 + unknownDepth
}

// dictionary returns the entries that the events mean, and whether they may have changed
// since it was called last.
func (m *meaning) dictionary() (entries map[string]wire.Entry, changed bool) {
	known := m.mean()
	if m.entries != nil {
		return m.entries, false
	}
	m.entries = make(map[string]wire.Entry, len(known))
	for key, k := range known {
		if entry := k.entry(); entry.Raw != nil {
			m.entries[key] = entry
		}
	}
	return m.entries, true
}
