package replica

import "slices"

// An Update is what sync brought of the memory's state events in a room.
type Update struct {
	Gap      bool    // sync has left out events before these
	State    []Event // what stood there before Timeline
	Timeline []Event // oldest first
	After    []Event // what stands there after Timeline; nil: the homeserver does not say
}

// Missed notes that sync may have missed events, or that the homeserver was restored from
// a backup.
func (r *Room) Missed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loaded || r.loading {
		r.skip()
		r.behind++
	}
}

// skip notes that sync has left out events, so that it is not known what the next ones replaced.
func (r *Room) skip() {
	for _, doc := range r.docs {
		doc.last, doc.start = "", false
	}
}

// Apply takes over what sync brought. It reports whether that leaves something to do: see
// [Room.Todo]. Of a room that is neither loaded nor about to be, nothing is kept.
func (r *Room) Apply(u Update) (todo bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.loaded:
		r.apply(u)
		return r.behind > 0 || len(r.busy) > 0
	case r.loading:
		r.early = append(r.early, u)
	}
	return false
}

func (r *Room) apply(u Update) {
	if u.Gap {
		r.skip()
		r.behind++
	}
	changed := make(map[string]bool)
	for _, e := range slices.Concat(bare(u.State), u.Timeline) {
		if r.layout.Owns(e.StateKey) {
			r.document(e.StateKey).observe(r.layout, e, r.self)
			changed[e.StateKey] = true
		}
	}
	for _, e := range bare(u.After) {
		if r.layout.Owns(e.StateKey) {
			doc := r.document(e.StateKey)
			doc.after(doc.learn(r.layout, e, false).standing())
			changed[e.StateKey] = true
		}
	}
	for stateKey := range changed {
		r.touch(stateKey)
	}
}

// touch notes that a document has changed.
func (r *Room) touch(stateKey string) {
	r.count++
	doc := r.document(stateKey)
	doc.changed = r.count
	r.refresh(stateKey, doc)
}

// refresh works out anew what a document's reads are answered from, and what it needs.
func (r *Room) refresh(stateKey string, doc *document) {
	doc.mean()
	r.tellChanges(stateKey, doc)
	r.repoint(doc.counted, doc.dict)
	doc.counted = doc.dict
	r.lost, doc.lost = append(r.lost, doc.lost...), nil
	r.see(stateKey, doc)
}

// see notes whether a document needs something done.
func (r *Room) see(stateKey string, doc *document) {
	if doc.ask || doc.older || doc.needsMending() || len(doc.loose) > 0 || doc.wants() {
		r.busy[stateKey] = true
	} else {
		delete(r.busy, stateKey)
	}
}

// Redacted notes that the event with this ID lost its content. It reports
// whether that is a state event of the room's memory. What an encrypted event
// held is no longer known.
func (r *Room) Redacted(eventID string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loading {
		r.gone = append(r.gone, eventID)
	}
	if r.pointers[eventID] > 0 {
		for _, doc := range r.docs {
			for key, entry := range doc.dict.Entries {
				if entry.Pointer == eventID && entry.Value != nil {
					doc.open(key, nil)
				}
			}
		}
	}
	return r.redact(eventID)
}

func (r *Room) redact(eventID string) (ours bool) {
	r.redacted = eventID
	defer func() { r.redacted = "" }()
	for stateKey, doc := range r.docs {
		standing := doc.id == eventID
		if doc.meaning != nil {
			ours = ours || doc.meaning.heard(eventID)
			doc.meaning.redact(eventID)
		}
		if standing {
			ours = true
			doc.emptied()
		}
		if standing || doc.meaning != nil {
			r.touch(stateKey)
		}
	}
	return ours
}
