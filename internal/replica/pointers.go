package replica

import (
	"maps"
	"slices"
)

// Open notes what the encrypted event that a key points at holds for it. Get
// returns it with the entry from then on, as long as the key points there.
func (r *Room) Open(key, eventID string, value []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	doc, ok := r.docs[r.layout.Of(key)]
	if !ok {
		return
	}
	entry, ok := doc.dict.Entries[key]
	if !ok || entry.Pointer != eventID {
		return
	}
	doc.open(key, value)
}

// Points reports whether any entry points at this encrypted event.
func (r *Room) Points(eventID string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.points(eventID)
}

func (r *Room) points(eventID string) bool {
	for _, doc := range r.docs {
		for _, entry := range doc.dict.Entries {
			if entry.Pointer == eventID {
				return true
			}
		}
	}
	return false
}

// Pointers returns the encrypted events that entries point at, each once.
func (r *Room) Pointers() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	events := make(map[string]bool)
	for _, doc := range r.docs {
		for _, entry := range doc.dict.Entries {
			if entry.Pointer != "" {
				events[entry.Pointer] = true
			}
		}
	}
	return slices.Collect(maps.Keys(events))
}

// Loosen notes encrypted events of which a write took a key away, or that no
// entry came to point at: see [Room.Loose].
func (r *Room) Loosen(stateKey string, eventIDs ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if doc, ok := r.docs[stateKey]; ok {
		doc.loose = append(doc.loose, eventIDs...)
	}
}

// Loose returns the noted encrypted events that no entry points at any more, each
// once. Another writer may not have heard of the write and bring a pointer back, so
// that waits until sync has brought the write; not so at the end.
func (r *Room) Loose(end bool) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var loose []string
	for _, doc := range r.docs {
		if len(doc.loose) == 0 || doc.stale() || doc.lacks() || !doc.inStep() && !end {
			continue
		}
		doc.loose = slices.DeleteFunc(doc.loose, func(eventID string) bool {
			if r.points(eventID) {
				return false
			}
			if !slices.Contains(loose, eventID) {
				loose = append(loose, eventID)
			}
			return true
		})
	}
	return loose
}
