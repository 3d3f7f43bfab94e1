package replica

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// A document is one state event as the room knows it. The room's lock owns it.
type document struct {
	id    string          // the event that reads are answered from; "" if there is none
	dict  wire.Dictionary // its content
	err   error           // why the content can't be read
	older bool            // the content stands under the older event type only
	doubt bool            // what stands in the room is uncertain: a write without an answer, or a redaction
	met   bool            // somebody else wrote while the document was ahead of sync

	busy bool     // a write or a read is under way
	back []string // the keys that the write under way puts back
	held []Event  // what sync brought meanwhile

	seen   string           // the last event that sync brought
	synced *wire.Dictionary // its content; nil if it is not known
	time   int64            // when it was sent
	own    []ownWrite       // the own writes whose echo is still to come, in their order

	// missing is what others changed and an own write took away: Matrix has no
	// compare-and-swap, so two writers of one dictionary can lose each other's
	// keys. A nil value stands for a key that they deleted and the write brought back.
	missing map[string]json.RawMessage
	mine    map[string]*past // the keys that own writes set, deleted or put back
	loose   []string         // encrypted events that perhaps no entry points at any more
}

// maxOwn is how many own writes are remembered while sync does not bring them.
const maxOwn = 128

// An ownWrite is an acknowledged write.
type ownWrite struct {
	id      string
	base    wire.Dictionary // what it was thought to replace
	changed []string        // the keys that it meant to change
	back    []string        // the keys that it put back
	late    []string        // those of them that others changed before it
}

// inStep says that the next event that sync brings is newer than the present one.
func (d *document) inStep() bool { return d.seen == d.id }

// stale says that the event must be read again before it can be a base.
func (d *document) stale() bool { return d.doubt || d.met }

// lacks says that something is missing that can be put back: only in step it is
// certain that nobody has changed it since.
func (d *document) lacks() bool { return len(d.missing) > 0 && d.inStep() && !d.doubt }

// set makes an event the one that reads are answered from.
func (d *document) set(eventID string, dict wire.Dictionary, err error) {
	d.id, d.dict, d.err, d.older = eventID, dict, err, false
	if d.inStep() {
		d.met = false
		d.sentBy(d.own) // whose echo has not come by now was lost in a gap of sync
		d.own = nil
		for key, raw := range d.missing {
			if same(dict.Entries[key].Raw, raw) {
				delete(d.missing, key)
			}
		}
	}
}

// observe takes over an event that sync brought.
func (d *document) observe(layout wire.Layout, event Event) {
	if d.busy {
		d.held = append(d.held, event)
		return
	}
	newer := d.inStep()
	if event.Gap {
		d.synced = nil // what stood there before this event is not known
	}
	dict, err := layout.Decode(event.StateKey, event.Content)
	d.keepOpen(dict)
	own := d.follow(event, dict, err)
	switch {
	case newer || event.ID == d.id:
		d.set(event.ID, dict, err)
	case !own:
		d.met = true // whose write was the later one?
	}
}

// keepOpen hands the values of encrypted events that are known on to a later
// content, which is not shared yet.
func (d *document) keepOpen(later wire.Dictionary) {
	for key, entry := range later.Entries {
		if before := d.dict.Entries[key]; entry.Pointer != "" && before.Pointer == entry.Pointer {
			entry.Value = before.Value
			later.Entries[key] = entry
		}
	}
}

// open notes the value of an encrypted entry, or that it is no longer known. The
// entries are copied, as writes may build upon them.
func (d *document) open(key string, value []byte) {
	entry := d.dict.Entries[key]
	entry.Value = value
	d.dict.Entries = maps.Clone(d.dict.Entries)
	d.dict.Entries[key] = entry
}

// follow goes one event further in the homeserver's order, and works out what
// own writes took away from others. It reports whether the event is an own one.
func (d *document) follow(event Event, dict wire.Dictionary, err error) (own bool) {
	before, then := d.synced, d.time
	d.seen, d.synced, d.time = event.ID, &dict, event.Time
	if err != nil {
		d.synced = nil
	}
	i := slices.IndexFunc(d.own, func(w ownWrite) bool { return w.id == event.ID })
	switch {
	case before == nil || err != nil:
		d.missing = nil // nothing that can be told from what stood there before
	case i < 0:
		d.changedByOthers(differences(*before, dict), dict)
	default:
		d.forgo(d.own[i].changed)
		for _, key := range slices.Concat(differences(*before, d.own[i].base), d.own[i].late) {
			raw := before.Entries[key].Raw
			if !d.changes(i, key) && !d.mine[key].outdated(raw, then) {
				d.miss(key, raw)
			}
		}
	}
	if i >= 0 {
		d.sentBy(d.own[:i+1])
		d.own = d.own[i+1:]
	}
	d.forget()
	return i >= 0
}

// changedByOthers notes what somebody else's event changed: the later write wins.
func (d *document) changedByOthers(keys []string, dict wire.Dictionary) {
	d.forgo(keys)
	for _, key := range keys {
		if past := d.mine[key]; past != nil && !past.has(dict.Entries[key].Raw) {
			delete(d.mine, key)
		}
		for i := range d.own {
			if slices.Contains(d.own[i].back, key) {
				d.own[i].late = append(d.own[i].late, key)
			}
		}
	}
}

// changes says whether an own write or one after it changed a key.
func (d *document) changes(i int, key string) bool {
	return slices.ContainsFunc(d.own[i:], func(w ownWrite) bool { return slices.Contains(w.changed, key) })
}

func (d *document) miss(key string, raw json.RawMessage) {
	if d.missing == nil {
		d.missing = make(map[string]json.RawMessage)
	}
	d.missing[key] = raw
}

// forgo notes that keys were changed since, so that nothing is missing there.
func (d *document) forgo(keys []string) {
	for _, key := range keys {
		delete(d.missing, key)
	}
}

// redact reports whether a redacted event matters to the document.
func (d *document) redact(eventID string) bool {
	if d.seen == eventID {
		d.synced, d.missing = nil, nil
	}
	if d.id != eventID && !slices.ContainsFunc(d.held, func(e Event) bool { return e.ID == eventID }) {
		return false
	}
	d.doubt = true
	return true
}

// wrote notes an acknowledged write.
func (d *document) wrote(eventID string, content wire.Dictionary, changed []string) {
	base := d.dict
	if d.id == "" {
		base = wire.Dictionary{} // what stands under the older type only
	}
	d.forgo(changed)
	for _, key := range slices.Concat(changed, d.back) {
		d.remember(key, base.Entries[key].Raw, content.Entries[key].Raw)
	}
	if d.own = append(d.own, ownWrite{id: eventID, base: base, changed: changed, back: d.back}); len(d.own) > maxOwn {
		d.sentBy(d.own[:1])
		d.own = d.own[1:] // its echo is taken for somebody else's, and the event read again
	}
	d.set(eventID, content, nil)
}

// release ends a write or a read and takes over what sync brought meanwhile.
func (d *document) release(layout wire.Layout) {
	held := d.held
	d.busy, d.back, d.held = false, nil, nil
	for _, event := range held {
		d.observe(layout, event)
	}
}

// differences returns the keys under which two dictionaries hold different entries.
func differences(a, b wire.Dictionary) []string {
	var keys []string
	for key, entry := range a.Entries {
		if !same(entry.Raw, b.Entries[key].Raw) {
			keys = append(keys, key)
		}
	}
	for key := range b.Entries {
		if _, ok := a.Entries[key]; !ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// same says whether two entries hold the same; nil stands for none.
func same(a, b json.RawMessage) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return wire.Equal(a, b)
}
