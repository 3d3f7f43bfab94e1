// Package replica is a local copy of what one room remembers.
//
// A [Room] follows the homeserver's order of the room's state events and
// answers every read from memory. It is a pure state machine: no I/O, no
// clocks, no goroutines. What it can't know by itself (what stands in the room
// after a write whose outcome is unknown, or after two writers met) it asks for
// with [Room.Todo]; package commit does what it asks.
//
// # Order
//
// Two sources tell a room what a state event holds: the answers to its own
// writes and reads, which come at once, and sync, which comes in the
// homeserver's order but late. A document is "in step" when the event it
// answers from is the last one that sync brought. Then whatever sync brings
// next is newer and is taken over. While a document is ahead of sync, only the
// echo of its own event brings it in step again; the echoes of its earlier
// writes are passed over, and any other event means that somebody else wrote at
// the same time, and that the event must be read again.
//
// Two writers of one dictionary can take each other's keys away. Once a document
// is in step again, [Room.Todo] asks to put back what an own write took away,
// unless somebody has changed that key on purpose since. It can't tell where sync
// passed events over, or where an own write had no answer, and puts nothing back
// there. What another writer takes away from this one is that writer's to put
// back: nobody else knows what it meant.
package replica

import (
	"encoding/json"
	"errors"
	"sync"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// ErrVanished says that the homeserver no longer has a state event that it had
// before. Matrix has no such thing, so nothing is overwritten on its account.
var ErrVanished = errors.New("the homeserver no longer knows a state event that it had before")

// ErrNotLoaded says that the room's state is not known, so that nothing can be
// read from it or built upon it.
var ErrNotLoaded = errors.New("the room's state is not loaded, or the bot has left the room")

// An Event is a state event of the memory's type.
type Event struct {
	ID       string
	StateKey string
	Content  json.RawMessage
	Time     int64 // when it was sent, in milliseconds: origin_server_ts
	Gap      bool  // sync may have left out events of this state key before this one
}

// A Room is the replica of one room. It is safe for concurrent use.
type Room struct {
	layout wire.Layout

	mu      sync.RWMutex // owns all below, documents included
	docs    map[string]*document
	loaded  bool
	loading bool
	early   earlyNews
}

// earlyNews is what sync brought while loading.
type earlyNews struct {
	events   []Event
	redacted []string
}

// New returns the replica of a room that is not loaded yet.
func New(layout wire.Layout) *Room {
	return &Room{layout: layout, docs: make(map[string]*document)}
}

// StateKey returns the state key of the event that holds a key.
func (r *Room) StateKey(key string) string { return r.layout.Of(key) }

// Loaded says whether the room's state is known, so that reads and writes make sense.
func (r *Room) Loaded() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.loaded
}

// Restore takes over the room's whole state, which was read after [Room.Expect].
// Events of the older type stand in where an event of the present type is
// missing. It is passed over if the room was forgotten meanwhile. It reports
// whether there is something to do: see [Room.Todo].
func (r *Room) Restore(state, older []Event) (todo bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loading {
		return false
	}
	r.docs = make(map[string]*document, len(state))
	for _, event := range older {
		if dict, err := r.layout.DecodeLegacy(event.StateKey, event.Content); r.layout.Owns(event.StateKey) && err == nil && len(dict.Entries) > 0 {
			stateKey := event.StateKey
			if r.layout.PerKey { // the key itself, then
				stateKey = r.layout.Of(event.StateKey)
			}
			doc := r.document(stateKey)
			doc.dict, doc.older = dict, true
		}
	}
	for _, event := range state {
		if !r.layout.Owns(event.StateKey) {
			continue
		}
		doc := &document{}
		r.docs[event.StateKey] = doc
		dict, err := r.layout.Decode(event.StateKey, event.Content)
		doc.set(event.ID, dict, err)
	}
	early := r.early
	r.loaded, r.loading, r.early = true, false, earlyNews{}
	for _, event := range early.events {
		r.observe(event)
	}
	for _, eventID := range early.redacted {
		r.redact(eventID)
	}
	return len(r.todo()) > 0
}

// Expect announces that the state is about to be read: from now on, what sync
// brings counts.
func (r *Room) Expect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loading = !r.loaded
}

// Forget drops all that is known, as after leaving the room.
func (r *Room) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.docs = make(map[string]*document)
	r.loaded, r.loading, r.early = false, false, earlyNews{}
}

// Apply takes over an event that sync brought. It reports whether that leaves
// something to do: see [Room.Todo]. Of a room that is neither loaded nor about
// to be, nothing is kept.
func (r *Room) Apply(event Event) (todo bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.loaded:
		return r.observe(event)
	case r.loading:
		r.early.events = append(r.early.events, event)
	}
	return false
}

func (r *Room) observe(event Event) (todo bool) {
	if !r.layout.Owns(event.StateKey) {
		return false
	}
	doc := r.document(event.StateKey)
	doc.observe(r.layout, event)
	return doc.stale() || doc.lacks() || doc.inStep() && len(doc.loose) > 0
}

// Redacted notes that the event with this ID lost its content. It reports
// whether that is a state event of the room's memory. What an encrypted event
// held is no longer known.
func (r *Room) Redacted(eventID string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loading {
		r.early.redacted = append(r.early.redacted, eventID)
	}
	for _, doc := range r.docs {
		for key, entry := range doc.dict.Entries {
			if entry.Pointer == eventID && entry.Value != nil {
				doc.open(key, nil)
			}
		}
	}
	return r.redact(eventID)
}

// Compare takes over what a read of the room's whole state shows beside changes:
// that an event has lost its content while sync passed events over, or that another
// one stands there than reads are answered from, as sync brought them in another order.
// It reports whether there is something to do: see [Room.Todo].
func (r *Room) Compare(state []Event) (todo bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, event := range state {
		doc, ok := r.docs[event.StateKey]
		if !ok || doc.err != nil || doc.busy {
			continue
		}
		dict, err := r.layout.Decode(event.StateKey, event.Content)
		if doc.id != event.ID || err != nil || len(differences(dict, doc.dict)) > 0 {
			doc.doubt, todo = true, true
		}
	}
	return todo
}

func (r *Room) redact(eventID string) bool {
	for _, doc := range r.docs {
		if doc.redact(eventID) {
			return true
		}
	}
	return false
}

// Get returns the entry that stands under a key.
func (r *Room) Get(key string) (wire.Entry, bool, error) {
	stateKey := r.layout.Of(key)
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.loaded {
		return wire.Entry{}, false, ErrNotLoaded
	}
	doc, ok := r.docs[stateKey]
	if !ok {
		return wire.Entry{}, false, nil
	}
	if doc.err != nil && !errors.Is(doc.err, wire.ErrForeign) {
		return wire.Entry{}, false, doc.err
	}
	entry, ok := doc.dict.Entries[key]
	return entry, ok, nil
}

// Keys returns the keys of all entries, in no particular order.
func (r *Room) Keys() ([]string, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.loaded {
		return nil, ErrNotLoaded
	}
	var n int
	for _, doc := range r.docs {
		n += len(doc.dict.Entries)
	}
	keys := make([]string, 0, n)
	for _, doc := range r.docs {
		if doc.err != nil && !errors.Is(doc.err, wire.ErrForeign) {
			return nil, doc.err
		}
		for key := range doc.dict.Entries {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// Begin starts a write of one state event and returns the dictionary that it
// builds upon. Until [Room.Commit], [Room.Abort] or [Room.Doubt] ends the
// write, what sync brings for this event is held back. Only one write or read of
// a state event may be under way at a time.
//
// An event that can't be read is no base: the error says why.
func (r *Room) Begin(stateKey string) (wire.Dictionary, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.begin(stateKey)
}

func (r *Room) begin(stateKey string) (wire.Dictionary, error) {
	if !r.loaded {
		return wire.Dictionary{}, ErrNotLoaded
	}
	doc := r.document(stateKey)
	if doc.err != nil {
		return wire.Dictionary{}, doc.err
	}
	doc.busy = true
	return doc.dict, nil
}

// Commit ends a write that the homeserver acknowledged with an event ID.
// changed names the keys that the write set or deleted on somebody's behalf:
// what others stored there before is not put back.
func (r *Room) Commit(stateKey, eventID string, content wire.Dictionary, changed []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded {
		return
	}
	doc := r.document(stateKey)
	if !doc.busy { // the room was restored meanwhile, from before or after this write
		doc.doubt = true
		return
	}
	doc.wrote(eventID, content, changed)
	doc.release(r.layout)
}

// Abort ends a write that the homeserver certainly did not store, or a read that failed.
func (r *Room) Abort(stateKey string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if doc, ok := r.docs[stateKey]; ok {
		doc.release(r.layout)
	}
}

// Doubt ends a write whose outcome is unknown. The event must be read again
// before the next write.
func (r *Room) Doubt(stateKey string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded {
		return
	}
	doc := r.document(stateKey)
	doc.doubt = true
	doc.release(r.layout)
}

// Hold announces that a state event is about to be read. Until [Room.Refresh] or
// [Room.Abort] ends the read, what sync brings for this event is held back, so
// that the answer is not older than what is known when it comes.
func (r *Room) Hold(stateKey string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if doc, ok := r.docs[stateKey]; ok {
		doc.busy = true
	}
}

// Refresh takes over a state event that was read from the homeserver since
// [Room.Hold]; found is false if there is none. It ends any doubt.
func (r *Room) Refresh(event Event, found bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	doc, ok := r.docs[event.StateKey]
	if !ok || !doc.busy { // the room was forgotten or restored meanwhile
		return nil
	}
	defer doc.release(r.layout)
	switch {
	case !found && doc.id != "":
		return ErrVanished
	case found:
		dict, err := r.layout.Decode(event.StateKey, event.Content)
		if event.ID == doc.seen {
			doc.follow(event, dict, err) // redacted, maybe
		}
		doc.set(event.ID, dict, err)
	}
	doc.doubt, doc.met = false, false
	return nil
}

// Stale says whether a state event must be read again before it can be a base.
func (r *Room) Stale(stateKey string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	doc, ok := r.docs[stateKey]
	return ok && doc.stale()
}

// document returns the document of a state key; it makes an empty one if need be.
func (r *Room) document(stateKey string) *document {
	doc, ok := r.docs[stateKey]
	if !ok {
		doc = &document{synced: &wire.Dictionary{}}
		r.docs[stateKey] = doc
	}
	return doc
}
