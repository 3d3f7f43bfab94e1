package replica

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// A knowledge is what some events say, key by key. It does not depend on the order in
// which they were taken.
type knowledge struct {
	keys   map[string]*known
	absent known // of a key that none of them names
}

// A known is what is known of one key.
type known struct {
	stamped bool
	at      wire.Stamp // of the latest change
	value   wire.Entry // without Raw if the key was deleted
	from    string     // an event that says so
	said    int64      // the depth of the deepest event that has a stamp for the key

	weak  []weak // of events that have none, the deepest first; each has a greater floor than those before it
	rules bool   // the first of them counts, and not the stamp
}

// A weak is what an event says of a key without a stamp: that is as of its floor, and of no
// later change.
type weak struct {
	value wire.Entry
	floor int64
	at    wire.Stamp // the event's depth and ID: the deepest counts
}

func newKnowledge() knowledge { return knowledge{keys: make(map[string]*known)} }

func (k *known) clone() *known {
	c := *k
	c.weak = slices.Clone(k.weak)
	return &c
}

func (k knowledge) clone() knowledge {
	c := knowledge{keys: make(map[string]*known, len(k.keys)), absent: *k.absent.clone()}
	for key, one := range k.keys {
		c.keys[key] = one.clone()
	}
	return c
}

// of returns what is known of a key.
func (k *knowledge) of(key string) *known {
	one := k.keys[key]
	if one == nil {
		one = k.absent.clone()
		k.keys[key] = one
	}
	return one
}

// take adds what an event says.
func (k *knowledge) take(e *event, r *reading) {
	if r.copied {
		return
	}
	for key, at := range r.stamps {
		k.of(key).join(at, r.depth, e.dict.Entries[key], e.id)
	}
	if e.blank {
		return
	}
	for key := range e.dict.Entries {
		k.of(key)
	}
	w := weak{floor: r.floor, at: wire.Stamp{Depth: r.depth, ID: e.id}}
	if r.floor > 0 { // it tells of what is not there, too
		k.absent.weaken(w)
	}
	for key, one := range k.keys {
		if one.stamped && one.at.Depth > r.floor {
			continue
		}
		entry, there := e.dict.Entries[key]
		if !there && r.floor == 0 {
			continue
		}
		if _, ok := r.stamps[key]; !ok {
			w.value = entry
			one.weaken(w)
		}
	}
}

// join adds a change, and that an event of some depth says so.
func (k *known) join(at wire.Stamp, depth int64, value wire.Entry, from string) {
	k.said = max(k.said, depth)
	if k.stamped && cmp.Or(at.Compare(k.at), bytes.Compare(value.Raw, k.value.Raw)) < 0 {
		return
	}
	k.stamped, k.at, k.value, k.from = true, at, value, from
	k.weak = slices.DeleteFunc(k.weak, func(w weak) bool { return w.floor < at.Depth })
}

// weaken adds what an event says without a stamp, unless a stamp is above its floor, or a
// deeper event says something as of a floor that is no lower.
func (k *known) weaken(w weak) {
	if k.stamped && w.floor < k.at.Depth {
		return
	}
	i := 0
	for ; i < len(k.weak) && k.weak[i].at.Compare(w.at) >= 0; i++ {
		if k.weak[i].floor >= w.floor {
			return
		}
	}
	j := i
	for j < len(k.weak) && k.weak[j].floor <= w.floor {
		j++
	}
	k.weak = slices.Replace(k.weak, i, j, w)
}

// contested says whether an event without a stamp says something else than the stamp, and
// no deeper event has a stamp.
func (k *known) contested() bool {
	return k.stamped && len(k.weak) > 0 && k.said <= k.weak[0].at.Depth && !same(k.weak[0].value, k.value)
}

// weakly says whether what an event says without a stamp counts.
func (k *known) weakly() bool { return len(k.weak) > 0 && (!k.stamped || k.rules) }

// entry returns what the key holds; one without Raw if it holds nothing.
func (k *known) entry() wire.Entry {
	if k.weakly() {
		return k.weak[0].value
	}
	return k.value
}

// stamp returns when the key was changed last; without a stamp only the floor is known.
func (k *known) stamp() (at wire.Stamp, floor int64) {
	if k.weakly() {
		return wire.Stamp{}, k.weak[0].floor
	}
	return k.at, 0
}
