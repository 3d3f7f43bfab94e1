package replica

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// A Heritage is what the memory of a room leaves to the room that takes its place: see
// [Room.Leave] and [Room.Inherit]. The room itself stays as it was.
type Heritage struct {
	layout wire.Layout
	docs   map[string]*left // by state key
}

// A left is what one document leaves.
type left struct {
	dict  wire.Dictionary // what it means
	mark  string          // what stood there last
	mine  []string        // own events that stood there
	stood []stood         // what is known to have stood there: somebody may have copied it

	// Of a dictionary with stamps.
	keys   map[string]*known // what counts of each
	absent known
	next   int64           // how deep its next write would go
	top    int64           // how deep an own attempt may be
	heard  map[string]bool // events, and IDs of stamps
}

// A stood is what stood in the old room at some time.
type stood struct {
	dict  wire.Dictionary
	depth int64
}

// Leave returns what the room leaves to the one that takes its place.
func (r *Room) Leave() (*Heritage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded {
		return nil, ErrNotLoaded
	}
	h := &Heritage{layout: r.layout, docs: make(map[string]*left)}
	for stateKey, doc := range r.docs {
		if err := doc.readable(); err != nil {
			return nil, fmt.Errorf("what stands under the state key %q: %w", stateKey, err)
		}
		l := doc.leave(r.self)
		for key := range l.dict.Entries {
			if r.stateKey(key) != stateKey { // another document's counts
				l.dict = l.dict.With(map[string]json.RawMessage{key: nil})
			}
		}
		h.docs[stateKey] = l
	}
	return h, nil
}

func (d *document) leave(self string) *left {
	l := &left{dict: d.dict, mark: d.id, mine: slices.Clone(d.mine), top: d.top, heard: make(map[string]bool)}
	if m := d.meaning; l.mark == "" && m != nil && len(m.events) > 0 {
		l.mark = m.events[len(m.events)-1].id
	}
	if l.mark == "" && d.from != nil {
		l.mark = d.from.mark
	}
	if d.sentBy(self) {
		l.mine = append(l.mine, d.id)
	}
	m := d.meaning
	if m == nil {
		for _, e := range d.recent {
			l.remember(e, 0)
		}
		l.stood = append(l.stood, stood{dict: d.standing.dict})
		return l
	}
	l.keys = make(map[string]*known)
	for key, k := range m.mean() {
		l.keys[key] = k.counting()
	}
	if d.older { // no event says so
		for key, entry := range d.dict.Entries {
			l.keys[key] = &known{weak: []weak{{value: entry}}}
		}
	}
	l.absent, l.next = *m.all.absent.counting(), m.next()
	for _, id := range slices.Concat(m.past, d.past, d.mine, []string{l.mark}) {
		l.heard[id] = true
	}
	for _, k := range l.keys {
		if k.stamped {
			l.heard[k.at.ID] = true
		}
	}
	for _, e := range m.events {
		l.remember(e, e.reading.depth)
	}
	delete(l.heard, "")
	return l
}

// counting returns what counts of a key.
func (k *known) counting() *known {
	if !k.stamped || k.weakly() {
		return &known{weak: slices.Clone(k.weak[:min(1, len(k.weak))])}
	}
	c := k.clone()
	c.weak, c.rules = nil, false
	return c
}

// remember notes an event that stood in the old room.
func (l *left) remember(e *event, depth int64) {
	l.heard[e.id] = true
	if e.write != nil {
		l.heard[e.write.ID] = true
	}
	if !e.blank {
		l.stood = append(l.stood, stood{e.dict, depth})
	}
}

// State tells what stood in the old room from what stood there before or may come to stand there.
func (h *Heritage) State() string {
	sum := sha256.New()
	for _, stateKey := range slices.Sorted(maps.Keys(h.docs)) {
		fmt.Fprintf(sum, "%q %q\n", stateKey, h.docs[stateKey].mark)
	}
	return base64.RawURLEncoding.EncodeToString(sum.Sum(nil))
}

// Past adds events of the old room that are older than those that its replica knows, so that
// copies of them are told from what somebody wrote.
func (h *Heritage) Past(events []Event) {
	for _, e := range events {
		l := h.docs[e.StateKey]
		if l == nil {
			continue
		}
		one := newEvent(h.layout, e, true)
		var depth int64
		if one.write != nil {
			depth = one.write.Depth
		}
		l.remember(one, depth)
	}
}

// Drop leaves keys out, as if they had been deleted in the old room at last: so they don't
// come over with a copy either. It returns those that were there.
func (h *Heritage) Drop(drop func(key string) bool) (dropped []string) {
	for _, l := range h.docs {
		changes := make(map[string]json.RawMessage)
		for key := range l.dict.Entries {
			if !drop(key) {
				continue
			}
			changes[key] = nil
			dropped = append(dropped, key)
			if l.keys != nil {
				at := wire.Stamp{Depth: l.next, ID: cmp.Or(l.mark, "$")} // as if an event said so
				l.keys[key] = &known{stamped: true, at: at, said: at.Depth, from: l.mark}
				l.heard[at.ID] = true
			}
		}
		if len(changes) > 0 {
			l.dict = l.dict.With(changes)
			l.next++
		}
	}
	slices.Sort(dropped)
	return dropped
}

// Replace has keys stand as something else in the new room: the same value, sealed anew.
func (h *Heritage) Replace(raws map[string]json.RawMessage) {
	for _, l := range h.docs {
		changes := make(map[string]json.RawMessage)
		for key, raw := range raws {
			if _, ok := l.dict.Entries[key]; !ok {
				continue
			}
			changes[key] = raw
			if k := l.keys[key]; k != nil && k.weakly() {
				k.weak[0].value = wire.DecodeValue(raw)
			} else if k != nil {
				k.value = wire.DecodeValue(raw)
			}
		}
		if len(changes) > 0 {
			l.dict = l.dict.With(changes)
		}
	}
}
