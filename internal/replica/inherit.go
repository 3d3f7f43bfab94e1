package replica

import (
	"encoding/json"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// An inheritance is what a document knows of the one in the old room.
type inheritance struct {
	dict wire.Dictionary // what that one meant
	mark string          // what stood there last

	// Where no stamp tells.
	until  int64    // when the old room was said to be replaced
	copied string   // the event here that is a copy, or has put what stood in the old room before
	older  []string // digests of what stood there before
	took   string   // the own event that put what the old room had left
}

const (
	// maxOlder is how many of the contents that stood in the old room before are known again.
	maxOlder = 32
	// slow is for how long, in milliseconds, others may put what they had left in the old room, though
	// it was replaced there.
	slow = 60_000
)

// superseded says whether an event holds what was replaced in the old room, so that a memory may
// have put it which had not heard of that.
func (i *inheritance) superseded(e *event) bool {
	return e.time > i.until && e.time <= i.until+slow && len(e.dict.Entries) > 0 && slices.Contains(i.older, digest(e.dict.Content()))
}

// disbelieved says whether what stands in the room is that, and does not count.
func (d *document) disbelieved() bool {
	return d.from != nil && d.from.took == "" && slices.ContainsFunc(d.recent, func(e *event) bool { return e.id == d.id && d.from.superseded(e) })
}

// A succession says how one room took the place of another.
type succession struct {
	maker  string // who made the new room
	until  int64  // when the old room was said to be replaced
	events map[string][]*event
}

func (r *Room) succession(maker string, until int64, events []Event) succession {
	s := succession{maker, until, make(map[string][]*event)}
	for _, e := range events {
		if r.layout.Owns(e.StateKey) {
			s.events[e.StateKey] = append(s.events[e.StateKey], newEvent(r.layout, e, true))
		}
	}
	return s
}

// copied says whether an event of the new room is no more than a copy of what stood in the
// old one, and how deep that was. Whoever makes a room may have the homeserver copy the
// state, or does so by hand, before the old room says that it is replaced.
func (s succession) copied(e *event, l *left) (depth int64, copied bool) {
	if e.blank || e.sender != s.maker || e.time == 0 || e.time > s.until || e.replaces != "" && !e.guessed {
		return 0, false
	}
	i := slices.IndexFunc(l.stood, func(o stood) bool { return equal(o.dict, e.dict) })
	if i < 0 {
		return 0, false
	}
	return l.stood[i].depth, true
}

// Takes returns what the room would take over from the old one that it does not hold, and what
// it holds that was sent encrypted for the old room: that has to be sealed anew for this one, see
// [Heritage.Replace].
func (r *Room) Takes(h *Heritage, maker string, until int64, events []Event) (map[string]wire.Entry, error) {
	s, err := r.save()
	if err != nil {
		return nil, err
	}
	after, err := s.restore(r.layout, r.self)
	if err != nil {
		return nil, err
	}
	before := make(map[string]wire.Entry)
	for stateKey, doc := range after.docs {
		for key, entry := range doc.dict.Entries {
			if after.stateKey(key) == stateKey {
				before[key] = entry
			}
		}
	}
	after.inherit(h, after.succession(maker, until, events), events)
	sealed := make(map[string]bool) // for the old room
	for _, l := range h.docs {
		for _, entry := range l.dict.Entries {
			sealed[entry.Pointer] = entry.Pointer != ""
		}
	}
	takes := make(map[string]wire.Entry)
	for stateKey, doc := range after.docs {
		for key, entry := range doc.dict.Entries {
			if after.stateKey(key) == stateKey && (sealed[entry.Pointer] || !same(entry, before[key])) {
				takes[key] = entry
			}
		}
	}
	return takes, nil
}

// Inherit takes over what the old room left: each key but those that were changed in the new
// room, with its stamp. maker made the new room; until is when the old one said that it was replaced
// (origin_server_ts); events are those of the new room that can be had, the latest first. It reports
// whether there is something to do.
func (r *Room) Inherit(h *Heritage, maker string, until int64, events []Event) (todo bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded {
		return false, ErrNotLoaded
	}
	r.taking = true
	defer func() { r.taking = false }()
	r.inherit(h, r.succession(maker, until, events), events)
	return len(r.todo()) > 0, nil
}

func (r *Room) inherit(h *Heritage, s succession, events []Event) {
	if !r.layout.PerKey {
		r.earlier(events)
		for stateKey, l := range h.docs {
			r.document(stateKey).goOn(l, s, s.events[stateKey])
			r.touch(stateKey)
		}
		return
	}
	elsewhere := make(map[string]*left) // by the state key where it goes
	for stateKey, l := range h.docs {
		if _, ok := r.docs[stateKey]; ok {
			r.receive(stateKey, l, s)
			continue
		}
		if elsewhere[stateKey] == nil && len(l.dict.Entries) == 0 { // others may put what was deleted
			elsewhere[stateKey] = l
		}
		for key, entry := range l.dict.Entries { // what opsdroid had put elsewhere goes where it belongs
			one := *l
			if usual := r.layout.Of(key); usual != stateKey {
				one.dict = wire.Dictionary{}.With(map[string]json.RawMessage{key: entry.Raw})
			}
			elsewhere[r.layout.Of(key)] = &one
		}
	}
	for stateKey, l := range elsewhere {
		r.receive(stateKey, l, s)
	}
}

// receive takes over what the old room left under a state key, unless somebody has put
// something there: {} too, which deletes a key.
func (r *Room) receive(stateKey string, l *left, s succession) {
	doc := r.document(stateKey)
	from := &inheritance{dict: l.dict, mark: l.mark, until: s.until}
	for _, o := range l.stood {
		if len(from.older) < maxOlder && !equal(o.dict, l.dict) {
			from.older = append(from.older, digest(o.dict.Content()))
		}
	}
	if doc.found && !from.replaces(doc, slices.Concat(doc.recent, s.events[stateKey]), l, s) {
		return
	}
	doc.answer(l.dict)
	doc.from = from
	doc.mine = slices.Concat(l.mine, doc.mine)
	doc.mine = doc.mine[max(0, len(doc.mine)-maxMine):]
	r.touch(stateKey)
}

// replaces says whether what the old room left counts, and not what stands in the new one: a copy,
// or what memories have put that had not heard of what replaced it in the old room.
func (i *inheritance) replaces(doc *document, events []*event, l *left, s succession) bool {
	known, copied, slower, set := map[string]bool{"": true}, false, false, false
	for _, e := range events {
		known[e.id] = true
		switch _, copy := s.copied(e, l); {
		case copy:
			copied = copied || e.id == doc.id
		case i.superseded(e):
			slower = slower || e.id == doc.id
		default:
			set = true
		}
	}
	for _, e := range events { // one that is not known may have been set here
		set = set || !known[e.replaces]
	}
	i.copied = doc.id
	return copied || slower && !set
}

// goOn takes over what a dictionary of the old room left.
func (d *document) goOn(l *left, s succession, events []*event) {
	m := d.meaning
	events = slices.Concat(events, m.events)
	for _, e := range events {
		m.copy(e, l, s)
	}
	m.worked = false
	now, changed := m.mean(), m.changedHere(l, events)
	for key, o := range l.keys {
		n := now[key]
		_, stays := changed[key]
		if stays || o.stamped && n != nil && !n.weakly() && n.at == o.at { // somebody has taken it along
			continue
		}
		if o.stamped {
			m.kept.of(key).join(o.at, o.said, o.value, o.from)
		} else if len(o.weak) > 0 {
			m.kept.of(key).weaken(o.weak[0])
		}
	}
	for key, n := range changed {
		if n.stamped {
			m.kept.of(key).join(n.at, n.said, n.value, n.from)
		}
	}
	for _, w := range l.absent.weak {
		m.kept.absent.weaken(w)
	}
	m.unsure, m.worked = max(m.unsure, l.next), false
	d.top = max(d.top, l.top)
	d.from = &inheritance{dict: l.dict, mark: l.mark}
}

// changedHere returns the keys that stay as they are in the new room, as they were changed there by
// who knew nothing of the old one; with a stamp where others could not tell that. Whoever has
// taken the old room's along says so with its first write, which names what stood there as its
// base. What such a write and those after it hold comes from the old room too: there stamps tell.
func (m *meaning) changedHere(l *left, events []*event) map[string]*known {
	var copies []wire.Dictionary
	ids := make(map[string]bool) // of events and writes
	for _, id := range m.past {
		ids[id] = true
	}
	goesOn, first := false, int64(0) // how deep the first such write is
	for _, e := range events {
		if _, copied := m.copies[e.id]; copied {
			copies = append(copies, e.dict)
			continue
		}
		ids[e.id] = true
		if !e.fits {
			continue
		}
		ids[e.write.ID] = true
		if l.heard[e.write.Base] && (!goesOn || e.write.Depth < first) {
			goesOn, first = true, e.write.Depth
		}
	}
	copied := func(key string, entry wire.Entry) bool {
		return slices.ContainsFunc(copies, func(c wire.Dictionary) bool { return same(c.Entries[key], entry) })
	}
	early := make(map[string]bool) // keys that were changed before that write
	for _, e := range m.events {
		if !goesOn || e.reading.depth >= first {
			continue
		}
		for key, at := range e.reading.stamps {
			early[key] = early[key] || !l.heard[at.ID]
		}
		for key, entry := range e.dict.Entries {
			if _, stamped := e.reading.stamps[key]; !stamped && !copied(key, entry) {
				early[key] = true
			}
		}
	}
	changed := make(map[string]*known)
	for key, n := range m.all.keys {
		switch {
		case n.weakly() && !goesOn && !copied(key, n.entry()):
			at := wire.Stamp{Depth: max(n.weak[0].floor, 1), ID: n.weak[0].at.ID}
			changed[key] = &known{stamped: true, at: at, value: n.entry(), from: at.ID, said: n.weak[0].at.Depth}
		case !n.weakly() && n.stamped && !l.heard[n.at.ID] && (!goesOn || ids[n.at.ID] && (n.at.Depth < first || early[key])):
			changed[key] = &known{}
		}
	}
	if goesOn || m.whole() {
		return changed
	}
	for key, o := range l.keys { // it may have been taken along and deleted so long ago that no stamp tells
		n := m.all.keys[key]
		if n == nil {
			n = &m.all.absent
		}
		if o.stamped && !n.stamped && slices.ContainsFunc(n.weak, func(w weak) bool { return w.floor >= o.at.Depth && w.value.Raw == nil }) {
			changed[key] = &known{}
		}
	}
	return changed
}

// copy notes that an event is a copy, if it is one: it says nothing.
func (m *meaning) copy(e *event, l *left, s succession) {
	depth, copied := s.copied(e, l)
	if !copied {
		return
	}
	if m.copies == nil {
		m.copies = make(map[string]int64)
	}
	m.copies[e.id] = depth
	m.kept.redact(e.id)
	if known := m.byID[e.id]; known != nil {
		known.copied()
	}
}

// copied notes that an event, which is a copy, replaced none.
func (e *event) copied() {
	e.replaces, e.guessed, e.partial, e.bare = "", false, false, false
	e.frozen, e.reading = false, nil
}

// overtakes sees to it that what was put as the old room had left it takes nothing away that
// somebody had put in the new one, which nobody had heard of by then.
func (d *document) overtakes(layout wire.Layout, e Event, known *event) {
	if d.meaning != nil || d.from == nil || d.from.took == "" || d.from.took != d.id {
		return
	}
	if e.ID == d.id {
		before, ok := e.before()
		if !ok {
			return
		}
		e, known = before, newEvent(layout, before, true)
	}
	if e.Bare || known.blank || e.ID == d.from.copied || slices.Contains(d.mine, e.ID) || d.from.superseded(known) {
		return
	}
	d.answer(known.dict)
}
