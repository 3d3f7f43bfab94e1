package replica

import (
	"maps"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// repoint counts anew what entries point at, after one dictionary took another's place.
func (r *Room) repoint(before, after wire.Dictionary) {
	for _, entry := range after.Entries {
		if entry.Pointer != "" {
			r.pointers[entry.Pointer]++
		}
	}
	for _, entry := range before.Entries {
		if entry.Pointer == "" {
			continue
		}
		if r.pointers[entry.Pointer]--; r.pointers[entry.Pointer] <= 0 {
			delete(r.pointers, entry.Pointer)
		}
	}
}

// Open notes what the encrypted event that a key points at holds for it. Get
// returns it with the entry from then on, as long as the key points there.
func (r *Room) Open(key, eventID string, value []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	doc, ok := r.docs[r.stateKey(key)]
	if !ok {
		return
	}
	entry, ok := doc.dict.Entries[key]
	if !ok || entry.Pointer != eventID {
		return
	}
	doc.open(key, value)
}

// open notes the value of an encrypted entry, or that it is no longer known. The
// entries are copied, as writes may build upon them.
func (d *document) open(key string, value []byte) {
	entry := d.dict.Entries[key]
	entry.Value = value
	d.dict.Entries = maps.Clone(d.dict.Entries)
	d.dict.Entries[key] = entry
}

// Points reports whether any entry points at this encrypted event.
func (r *Room) Points(eventID string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.pointers[eventID] > 0
}

// Unused reports whether no entry points at an encrypted event, and what stands in the room is
// known not to either.
func (r *Room) Unused(eventID string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.loaded || r.behind > 0 || r.pointers[eventID] > 0 {
		return false
	}
	for stateKey := range r.busy {
		if doc := r.docs[stateKey]; doc.ask || doc.needsMending() {
			return false
		}
	}
	return true // what the bot has written since points there no more than what it has read
}

// unsure says whether something else may stand in the room than the document says.
func (d *document) unsure() bool { return d.ask || d.ahead() || d.needsMending() }

// Pointers returns the encrypted events that entries point at, each once.
func (r *Room) Pointers() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Collect(maps.Keys(r.pointers))
}

// Loosen notes encrypted events of which a write took a key away, or that no
// entry came to point at: see [Room.Loose].
func (r *Room) Loosen(stateKey string, eventIDs ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if doc, ok := r.docs[stateKey]; ok && len(eventIDs) > 0 {
		doc.loose = append(doc.loose, eventIDs...)
		r.see(stateKey, doc)
	}
}

// Loose returns the noted encrypted events that no entry points at any more, each
// once. What stands in the room must not point there either, so that waits until it is
// known that the write stands.
func (r *Room) Loose() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var loose []string
	for stateKey := range r.busy {
		doc := r.docs[stateKey]
		if len(doc.loose) == 0 || r.behind > 0 || doc.unsure() {
			continue
		}
		doc.loose = slices.DeleteFunc(doc.loose, func(eventID string) bool {
			if r.pointers[eventID] > 0 {
				return false
			}
			if !slices.Contains(loose, eventID) {
				loose = append(loose, eventID)
			}
			return true
		})
		r.see(stateKey, doc)
	}
	return loose
}
