package replica

import (
	"maps"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// A reading is what one event says.
type reading struct {
	copied bool   // nothing: it is a copy of another room's event
	own    bool   // it is what its author put, and was sent for the first time
	base   *event // what it was built upon otherwise, unless the reading is frozen
	sure   bool   // no other event that comes to be known makes that another one
	unsure bool   // nothing is known of the depth of what it was built upon
	depth  int64
	stamps map[string]wire.Stamp // of what it says; the rest is as of its floor
	floor  int64
}

// own says whether an event is what its author put, however late and however often it
// was sent: but not if the same account takes back what it had just carried along.
func (m *meaning) own(e *event) bool {
	if !e.fits {
		return false
	}
	b := m.byID[e.replaces]
	return b == nil || b.blank || b.write == nil || b.fits || b.sender != e.sender || b.write.ID != e.write.ID
}

// base returns the event that a program which knows nothing of writes had read before
// it sent e; nil if that can't be told. sure says that it differs from that by one step, and that it
// replaced it, or others that did.
func (m *meaning) base(e *event) (base *event, sure bool) {
	write := e.write
	if write == nil {
		b := m.byID[e.replaces]
		if b == nil || !b.blank && oneStep(b.dict, e.dict) {
			return b, b != nil
		}
		var best *event
		for _, o := range m.events { // a fork
			if o != e && o.replaces == e.replaces && !o.blank && oneStep(o.dict, e.dict) && (best == nil || o.id > best.id) {
				best = o
			}
		}
		if best != nil {
			return best, false
		}
		return b, false
	}
	var least *event
	fewest := 0
	for o, n := m.byID[e.replaces], 0; o != nil && n <= len(m.events); o, n = m.byID[o.replaces], n+1 {
		if o.blank || o.write == nil || o.write.ID != write.ID {
			continue
		}
		if oneStep(o.dict, e.dict) {
			return o, true
		}
		if differ := len(differences(o.dict, e.dict)); least == nil || differ < fewest {
			least, fewest = o, differ
		}
	}
	if least != nil {
		return least, false
	}
	for _, o := range m.events { // on a fork
		if o != e && o.fits && o.write.ID == write.ID {
			return o, false
		}
	}
	return nil, false
}

// readAll works out what each event says.
func (m *meaning) readAll() {
	for _, e := range m.events {
		if !e.frozen {
			e.reading = nil
		}
	}
	for _, e := range m.events {
		m.read(e)
	}
}

// read returns what an event says.
func (m *meaning) read(e *event) *reading {
	if e.reading != nil {
		return e.reading
	}
	first := e.first()
	r := &reading{sure: first, unsure: !first}
	e.reading = r // what refers to itself, as no honest event does, ends here
	write := e.write
	depth, copied := m.copies[e.id]
	switch {
	case copied:
		r.copied, r.sure, r.unsure, r.depth = true, true, false, depth
		return r
	case e.blank:
		if b := m.byID[e.replaces]; b != nil {
			r.depth, r.unsure, r.sure = m.read(b).depth, m.read(b).unsure, true
		}
		return r
	case m.own(e):
		r.own, r.sure, r.unsure, r.depth = true, true, false, write.Depth
	default:
		if write != nil {
			r.depth = write.Depth
		}
		var sure bool
		if r.base, sure = m.base(e); r.base != nil {
			base := m.read(r.base)
			r.depth, r.unsure = max(r.depth, base.depth), base.unsure
		}
		r.sure = sure || first && write == nil
		r.depth++
	}
	if write != nil {
		r.floor = write.Floor
		if r.own || r.base != nil {
			r.stamps = write.Keys
		}
	}
	if r.base != nil {
		if r.stamps = maps.Clone(r.stamps); r.stamps == nil {
			r.stamps = make(map[string]wire.Stamp)
		}
		for _, key := range differences(r.base.dict, e.dict) {
			r.stamps[key] = wire.Stamp{Depth: r.depth, ID: e.id}
		}
	}
	return r
}

// settled says whether what each event was read to say is so, whatever else came to be
// known since.
func (m *meaning) settled() bool {
	return !slices.ContainsFunc(m.events, func(e *event) bool {
		r := e.reading
		if e.frozen || r.copied || r.sure && r.own == m.own(e) {
			return false
		}
		base, _ := m.base(e)
		return e.blank || r.own || m.own(e) || base != r.base
	})
}
