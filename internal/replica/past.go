package replica

import (
	"encoding/json"
	"hash/maphash"
	"maps"
	"math"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// A past is what an own write made of a key, and what the key held before.
//
// Two memories that write the same dictionary take each other's keys away, and
// put them back. By then what they put back may be out of date, and if that is
// taken for a change on purpose, an old value wins over the one that was set
// last. A former value of an own key is therefore no news, for a while: somebody
// who sets it on purpose can't be told from one who has not heard of the present.
type past struct {
	present json.RawMessage // nil: the key was deleted
	time    int64           // when it was sent; math.MaxInt64 until sync has brought it
	former  []uint64        // fingerprints, oldest first
}

const (
	// maxFormer is how many values of a key are remembered.
	maxFormer = 16
	// maxLag is how long another memory may not have heard of a value, in milliseconds.
	maxLag = 30_000
)

// remember notes that an own write changed a key.
func (d *document) remember(key string, from, to json.RawMessage) {
	p, ok := d.mine[key]
	if !ok {
		if d.mine == nil {
			d.mine = make(map[string]*past)
		}
		p = &past{present: from}
		d.mine[key] = p
	}
	for _, raw := range []json.RawMessage{p.present, from} {
		if value := fingerprint(raw); !slices.Contains(p.former, value) {
			p.former = append(p.former, value)
		}
	}
	p.former = p.former[max(0, len(p.former)-maxFormer):]
	p.present, p.time = to, math.MaxInt64
}

// sentBy notes that own writes were sent by the time of the last event that sync brought.
func (d *document) sentBy(own []ownWrite) {
	for _, w := range own {
		for _, key := range slices.Concat(w.changed, w.back) {
			if p := d.mine[key]; p != nil {
				p.time = d.time
			}
		}
	}
}

// forget drops what every other memory must have heard of by now.
func (d *document) forget() {
	maps.DeleteFunc(d.mine, func(_ string, p *past) bool { return d.time-p.time >= maxLag })
}

// outdated says whether a value that was sent at a time is a former one.
func (p *past) outdated(raw json.RawMessage, sent int64) bool {
	return p != nil && sent-p.time < maxLag && !same(raw, p.present) && slices.Contains(p.former, fingerprint(raw))
}

// has says whether the key ever held a value.
func (p *past) has(raw json.RawMessage) bool {
	return same(raw, p.present) || slices.Contains(p.former, fingerprint(raw))
}

var seed = maphash.MakeSeed()

// fingerprint stands for an entry; nil stands for none.
func fingerprint(raw json.RawMessage) uint64 {
	if raw == nil {
		return 0
	}
	return maphash.Bytes(seed, wire.Canonical(raw))
}
