package replica

import (
	"encoding/json"
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

	busy bool    // a write or a read is under way
	held []Event // what sync brought meanwhile

	seen   string           // the last event that sync brought
	synced *wire.Dictionary // its content; nil if it is not known
	own    []ownWrite       // the own writes whose echo is still to come, in their order

	// missing is what others changed and an own write took away: Matrix has no
	// compare-and-swap, so two writers of one dictionary can lose each other's
	// keys. A nil value stands for a key that they deleted and the write brought back.
	missing map[string]json.RawMessage
}

// An ownWrite is an acknowledged write.
type ownWrite struct {
	id      string
	base    wire.Dictionary // what it was thought to replace
	changed []string        // the keys that it meant to change
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
		d.own = nil // whose echo has not come by now was lost in a gap of sync
	}
}

// observe takes over an event that sync brought.
func (d *document) observe(layout wire.Layout, event Event) {
	if d.busy {
		d.held = append(d.held, event)
		return
	}
	newer := d.inStep()
	dict, err := layout.Decode(event.StateKey, event.Content)
	d.keepOpen(dict)
	own := d.follow(event.ID, dict, err)
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

// follow goes one event further in the homeserver's order, and works out what
// own writes took away from others. It reports whether the event is an own one.
func (d *document) follow(eventID string, dict wire.Dictionary, err error) (own bool) {
	before := d.synced
	d.seen, d.synced = eventID, &dict
	if err != nil {
		d.synced = nil
	}
	i := slices.IndexFunc(d.own, func(w ownWrite) bool { return w.id == eventID })
	switch {
	case before == nil || err != nil:
		d.missing = nil // nothing that can be told from what stood there before
	case i < 0:
		d.forgo(differences(*before, dict)) // the later write wins
	default:
		d.forgo(d.own[i].changed)
		for _, key := range differences(*before, d.own[i].base) {
			if !d.changes(i, key) {
				d.miss(key, before.Entries[key].Raw)
			}
		}
	}
	if i >= 0 {
		d.own = d.own[i+1:]
	}
	return i >= 0
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
	d.own = append(d.own, ownWrite{eventID, base, changed})
	d.forgo(changed)
	d.set(eventID, content, nil)
}

// release ends a write or a read and takes over what sync brought meanwhile.
func (d *document) release(layout wire.Layout) {
	d.busy = false
	held := d.held
	d.held = nil
	for _, event := range held {
		d.observe(layout, event)
	}
}

// differences returns the keys under which two dictionaries hold different entries.
func differences(a, b wire.Dictionary) []string {
	var keys []string
	for key, entry := range a.Entries {
		if other, ok := b.Entries[key]; !ok || !wire.Equal(entry.Raw, other.Raw) {
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
