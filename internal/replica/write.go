package replica

import (
	"cmp"
	"encoding/json"
	"slices"
	"sort"
	"strings"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// Reserve returns how many bytes of a state event stand beside its entries, at least.
func (r *Room) Reserve() int {
	if r.layout.PerKey {
		return 0
	}
	const depth = 1<<53 - 1
	return wire.Write{Depth: depth, Floor: depth, Base: strings.Repeat("$", 64)}.Size()
}

// maxStamps is how many changes a write tells of, beside those that are new or that
// other events contradict.
const maxStamps = 16

// maxContradicting is how many of the last events are looked at for that.
const maxContradicting = 10

// A Draft is a write of one state event.
type Draft struct {
	Content json.RawMessage

	dict     wire.Dictionary
	sender   string
	base     string // what stands in the room, as far as is known
	was      string // the same, also where only its content is known
	depth    int64
	repeated bool
	left     bool // it is what another room left: see [Room.Inherit]
}

// Masked says that a draft changes what reads are answered from, and yet would make no new event, as what stands in the
// room says the same, like a copy of what stood in the room that this one replaces. Others would not hear of it, and
// might put what was acknowledged before: so that is to be mended first.
func (r *Room) Masked(stateKey string, draft Draft) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	doc, ok := r.docs[stateKey]
	return ok && doc.meaning == nil && doc.needsMending() && equal(doc.standing.dict, draft.dict)
}

// Attempt says with what the draft's changes are sent, for those that were not sent before.
func (d Draft) Attempt() Attempt {
	if d.dict.Write == nil {
		return Attempt{Was: d.was}
	}
	return Attempt{At: wire.Stamp{Depth: d.depth, ID: d.dict.Write.ID}, Was: d.was}
}

// Repeated says that the draft was sent more than once, and that the homeserver may act
// upon one of the requests later.
func (d Draft) Repeated() Draft {
	d.repeated = true
	return d
}

// Keys returns how many keys the content holds.
func (d Draft) Keys() int { return len(d.dict.Entries) }

// Begin returns the dictionary that a write of one state event builds upon. An event that
// can't be read is no base: the error says why.
func (r *Room) Begin(stateKey string) (wire.Dictionary, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded {
		return wire.Dictionary{}, ErrNotLoaded
	}
	doc, ok := r.docs[stateKey]
	if !ok {
		return wire.Dictionary{}, nil
	}
	return doc.dict, doc.standing.err
}

// Draft makes the content of a state event with some entries changed: see
// [wire.Dictionary.With]. changed names the keys that are changed on somebody's behalf,
// though they may keep what they hold, and with what those changes were sent that were sent
// before: these keep their stamps. The others' are left out where the content would have
// more bytes than the limit. It fails with [ErrHeard] if the [Fate] of a change that was sent
// before is no longer that it is missing or [Ours].
func (r *Room) Draft(stateKey string, changes map[string]json.RawMessage, changed map[string]*Attempt, limit int) (Draft, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded {
		return Draft{}, ErrNotLoaded
	}
	doc := r.document(stateKey)
	if doc.standing.err != nil {
		return Draft{}, doc.standing.err
	}
	for key, first := range changed {
		if first == nil {
			continue
		}
		if fate := r.fate(doc, key, first); fate != Missing && fate != Ours {
			return Draft{}, ErrHeard
		}
	}
	if doc.again { // nothing else tells, and what stands there is written over
		doc.again, r.lost = false, append(r.lost, doc.id)
	}
	draft := Draft{dict: doc.dict.With(changes), sender: r.self, was: doc.standing.name()}
	if r.layout.PerKey && len(draft.dict.Entries) == 0 {
		draft.dict = wire.Dictionary{} // as opsdroid deletes a key; with other members it would be nobody's
	}
	if !doc.ask {
		draft.base = doc.id
	}
	if doc.meaning == nil {
		draft.left = doc.from != nil && len(changed) == 0
		draft.Content = draft.dict.Content()
		doc.sending = &draft
		return draft, nil
	}
	base := draft.base
	if len(doc.sent) > 0 { // what these replaced is not known
		base = ""
	}
	if doc.from != nil {
		base = doc.from.mark
	}
	unstamped := draft.dict.Content()
	write := doc.write(changed, base, func(w wire.Write) bool {
		size := w.Size()
		return len(unstamped)+size <= limit || wire.CanonicalSize(unstamped)+size <= limit
	})
	var nonce [4]byte
	_, _ = r.random.Read(nonce[:]) // it never fails
	signed, content := draft.dict.Sign(write, nonce, r.self)
	draft.Content, draft.depth = content, signed.Depth
	draft.dict.Write = &signed
	doc.top, doc.sending = max(doc.top, signed.Depth), &draft
	return draft, nil
}

// A stamped is a key and when it was changed.
type stamped struct {
	key string
	at  wire.Stamp
}

// write returns what stands beside the entries of a dictionary. It has the stamps of all
// changes that were sent before, and as many others as fit, but at least one.
func (d *document) write(changed map[string]*Attempt, base string, fits func(wire.Write) bool) wire.Write {
	known := d.meaning.mean()
	_, floor := d.meaning.all.absent.stamp()
	var kept, stamps, before []stamped
	for key, first := range changed {
		if first != nil {
			kept = append(kept, stamped{key, first.At})
			d.top = max(d.top, first.At.Depth)
		} else {
			stamps = append(stamps, stamped{key: key})
		}
	}
	w := wire.Write{Depth: max(d.meaning.next(), d.top+1), Floor: floor, Base: base}
	slices.SortFunc(stamps, func(a, b stamped) int { // the shortest name stays longest
		return cmp.Or(cmp.Compare(len(a.key), len(b.key)), cmp.Compare(a.key, b.key))
	})
	for i := range stamps {
		stamps[i].at.Depth = w.Depth
	}
	stamps = slices.Concat(kept, stamps)
	for key, k := range known {
		if _, isNew := changed[key]; isNew {
			continue
		}
		at, floor := k.stamp()
		w.Floor = max(w.Floor, floor)
		if at.Depth > 0 {
			before = append(before, stamped{key, at})
		}
	}
	slices.SortFunc(before, func(a, b stamped) int { return b.at.Compare(a.at) })
	latest := min(max(0, maxStamps-len(stamps)), len(before))
	stamps = append(stamps, before[:latest]...)
	contradicted := d.contradicted()
	for _, c := range before[latest:] {
		w.Floor = max(w.Floor, c.at.Depth)
		if contradicted[c.key] {
			stamps = append(stamps, c)
		}
	}
	first := func(n int) wire.Write {
		w := w
		w.Keys = make(map[string]wire.Stamp, n)
		for _, c := range stamps[:n] {
			w.Keys[c.key] = c.at
		}
		for _, c := range stamps[n:] {
			w.Floor = max(w.Floor, c.at.Depth)
		}
		return w
	}
	least := max(len(kept), 1)
	if all := first(len(stamps)); len(stamps) <= least || fits(all) {
		return all
	}
	return first(least + sort.Search(len(stamps)-1-least, func(n int) bool { return !fits(first(least + n + 1)) }))
}

// contradicted returns the keys under which what stands in the room, or one of the last
// events, holds something else than what all mean.
func (d *document) contradicted() map[string]bool {
	keys := make(map[string]bool)
	if d.standing.found && d.standing.err == nil {
		for _, key := range differences(d.standing.dict, d.dict) {
			keys[key] = true
		}
	}
	later := &event{dict: d.dict}
	for i, n := len(d.meaning.events)-1, 0; i >= 0 && n < maxContradicting; i, n = i-1, n+1 {
		e := d.meaning.events[i]
		if e.blank {
			continue
		}
		for _, key := range e.unlike(later) {
			keys[key] = true
		}
		later = e
	}
	return keys
}

// Commit notes that the homeserver acknowledged a draft with an event ID.
func (r *Room) Commit(stateKey string, draft Draft, eventID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded {
		return
	}
	r.document(stateKey).wrote(draft, eventID)
	r.touch(stateKey)
}

// Doubt notes that the outcome of a draft is unknown: it may be stored, now or later. What
// stands in the room is to be asked for.
func (r *Room) Doubt(stateKey string, draft Draft) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loaded {
		doc := r.document(stateKey)
		doc.attempted(draft, doc.standing)
		doc.ask = true
		r.touch(stateKey)
	}
}

// Count returns a number that changes with whatever is heard of a state event.
func (r *Room) Count(stateKey string) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if doc, ok := r.docs[stateKey]; ok {
		return doc.changed
	}
	return 0
}

// Changes returns a number that changes with whatever is heard of the room.
func (r *Room) Changes() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.count
}

// Answer takes over what the homeserver says that stands under a state key; found is
// false if nothing does. count is what [Room.Count] gave before it was asked. heard is false if
// the events must be loaded again, see [Room.Missed]; stands says whether the keys hold what
// reads are answered from.
func (r *Room) Answer(stateKey string, content json.RawMessage, found bool, count int, keys []string) (heard, stands bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded {
		return true, false
	}
	var s standing
	if found {
		s = newEvent(r.layout, Event{StateKey: stateKey, Content: content}, false).standing()
	}
	if _, ok := r.docs[stateKey]; !ok && !found {
		return true, true
	}
	doc := r.document(stateKey)
	heard = doc.hear(s, doc.changed == count, r.self)
	r.touch(stateKey)
	stands = s.err == nil
	for _, key := range keys {
		stands = stands && same(s.dict.Entries[key], doc.dict.Entries[key])
	}
	return heard, stands
}
