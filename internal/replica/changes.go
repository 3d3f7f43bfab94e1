package replica

import (
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// A Change says that reads of a key are answered with something else than before.
type Change struct {
	Key     string
	Entry   wire.Entry // without Raw if the key was deleted
	EventID string     // of the event that tells so; "": that is not known
	Sender  string     // of that event; "": that is not known, as of what a redaction took away
	Time    int64      // of that event, in milliseconds; 0: that is not known yet, or any more
	Own     bool       // this process has sent it
	Taken   bool       // it was taken along from the room that this one replaces
}

// Tell has the room tell what changes, from now on. It is told under the room's lock, so tell
// must not call the room. Nothing is told of what is loaded first.
func (r *Room) Tell(tell func([]Change)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell = tell
}

// Change returns the change that reads of a key are answered from now.
func (r *Room) Change(key string) Change {
	r.mu.Lock() // to work out what events mean
	defer r.mu.Unlock()
	if doc, ok := r.docs[r.stateKey(key)]; ok {
		return r.change(doc, key)
	}
	return Change{Key: key}
}

// tellChanges tells which entries of a document have changed since it was told last.
func (r *Room) tellChanges(stateKey string, doc *document) {
	if r.tell == nil || !r.loaded {
		return
	}
	keys := slices.DeleteFunc(differences(doc.counted, doc.dict), func(key string) bool { return r.stateKey(key) != stateKey })
	if len(keys) == 0 {
		return
	}
	slices.Sort(keys)
	changes := make([]Change, len(keys))
	for i, key := range keys {
		changes[i] = r.change(doc, key)
	}
	r.tell(changes)
}

// change returns the change that a key's entry comes from, as far as that is known.
func (r *Room) change(doc *document, key string) Change {
	c := Change{Key: key, Entry: doc.dict.Entries[key], Taken: r.taking}
	if r.redacted != "" { // somebody has, and not this process: it redacts no state event
		c.EventID = r.redacted
		return c
	}
	e := &event{id: doc.id}
	if doc.meaning != nil {
		e = doc.meaning.source(key)
	} else if i := slices.IndexFunc(doc.recent, func(e *event) bool { return e.id == doc.id }); i >= 0 {
		e = doc.recent[i]
	}
	c.EventID, c.Time = e.id, e.time
	switch {
	case e.acked && e.sender == "": // an own one that the homeserver is known to have: see stored
		c.EventID, c.Sender, c.Own = "", r.self, true
	case !e.blank && same(e.dict.Entries[key], c.Entry): // else it was redacted
		c.Sender = e.sender
		c.Own = slices.Contains(doc.mine, e.id) || doc.sentBefore(c, e, r.self)
	}
	return c
}

// sentBefore says whether a change, of which an event tells, is one of an own request that nobody has
// acknowledged so far: the event may be somebody else's who has built upon it.
func (d *document) sentBefore(c Change, e *event, self string) bool {
	if d.meaning == nil {
		return e.sender == self && (d.sends(e.standing(), true) || slices.ContainsFunc(d.tried, func(a attempt) bool { return equal(a.dict, e.dict) }))
	}
	id := ""
	if k := d.meaning.mean()[c.Key]; k != nil && !k.weakly() {
		id = k.at.ID
	}
	has := func(dict wire.Dictionary) bool {
		return dict.Write != nil && (dict.Write.ID == id || e.write != nil && dict.Write.ID == e.write.ID) && same(dict.Entries[c.Key], c.Entry)
	}
	return d.sending != nil && has(d.sending.dict) || slices.ContainsFunc(d.tried, func(a attempt) bool { return has(a.dict) })
}

// source returns the event that says what a key holds: of several, the one that said so first. It may
// have nothing but its ID, or not even that.
func (m *meaning) source(key string) *event {
	k := m.mean()[key]
	switch {
	case k == nil:
		return &event{}
	case k.weakly():
		return m.named(k.weak[0].at.ID)
	}
	for _, e := range m.events {
		if at, ok := e.reading.stamps[key]; ok && at == k.at && !e.blank {
			return e
		}
	}
	return m.named(k.from)
}

// named returns an event, as far as it is known.
func (m *meaning) named(id string) *event {
	if e := m.byID[id]; e != nil {
		return e
	}
	return &event{id: id}
}
