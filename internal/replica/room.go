// Package replica is a local copy of what one room remembers.
//
// A [Room] takes over the memory's state events, from sync, from the room's state and from
// its history, and answers every read from what they mean. It is a pure state machine: no
// I/O, no clocks, no goroutines. What it can't know by itself it asks for with
// [Room.Todo]; packages room and commit do what it asks.
//
// # What events mean
//
// Matrix has no compare-and-swap, and what a memory hears of others comes late. So every
// dictionary that a memory writes says when its latest changes were made: see
// [wire.Write]. The meaning of a dictionary is, key by key, the change with the greatest
// stamp, whichever event stands in the room and in whatever order events arrive. Where a
// program that knows nothing of stamps wrote, what differs from the event that it had
// read is a change one deeper than that event.
//
// What stands in the room is another matter: of two events that were sent at the same
// moment the homeserver picks one. Where what stands there is not what the events mean, it
// is mended: the meaning is written once more.
//
// In the per-key layout events have no stamps, and what stands in the room counts.
package replica

import (
	"crypto/rand"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// ErrNotLoaded says that the room's state is not known, so that nothing can be
// read from it or built upon it.
var ErrNotLoaded = errors.New("the room's state is not loaded, or the bot has left the room")

// A Snapshot is what the homeserver says of the memory's state events in a room.
type Snapshot struct {
	State    []Event // what stands there, or stood there before Timeline
	Timeline []Event // the last events, oldest first
	Older    []Event // the state events of the older type
}

// An Update is what sync brought of the memory's state events in a room.
type Update struct {
	Gap      bool    // sync has left out events before these
	State    []Event // what stood there before Timeline
	Timeline []Event // oldest first
	After    []Event // what stands there after Timeline; nil: the homeserver does not say
}

// A Room is the replica of one room. It is safe for concurrent use.
type Room struct {
	layout wire.Layout
	self   string // the bot's user ID
	random io.Reader

	mu       sync.RWMutex // owns all below, documents included
	docs     map[string]*document
	pointers map[string]int  // how many entries point at an encrypted event
	busy     map[string]bool // state keys of documents that need something done
	loaded   bool
	loading  bool
	began    int      // the count when loading began
	count    int      // of changes
	behind   int      // how often events may have been missed
	caught   int      // the same when loading began
	early    []Update // what sync brought while loading for the first time
	gone     []string // what was redacted meanwhile
}

// New returns the replica of a room that is not loaded yet. self is the bot's user ID.
func New(layout wire.Layout, self string) *Room {
	r := &Room{layout: layout, self: self, random: rand.Reader}
	r.clear()
	return r
}

func (r *Room) clear() {
	r.docs, r.pointers, r.busy = make(map[string]*document), make(map[string]int), make(map[string]bool)
	r.loaded, r.loading, r.early, r.gone, r.behind, r.caught = false, false, nil, nil, 0, 0
}

// StateKey returns the state key of the event that holds a key.
func (r *Room) StateKey(key string) string { return r.layout.Of(key) }

// Loaded says whether the room's state is known, so that reads and writes make sense.
func (r *Room) Loaded() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.loaded
}

// Behind says whether sync may have missed events, so that the room is to be loaded again
// before a state event is written. Reads go on from what is known.
func (r *Room) Behind(stateKey string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.loaded {
		return false
	}
	doc, ok := r.docs[stateKey]
	return r.behind > 0 || ok && doc.meaning != nil && doc.meaning.wants()
}

// Ahead returns the state keys of own writes that are not known to stand in the room.
func (r *Room) Ahead() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var ahead []string
	for stateKey, doc := range r.docs {
		if doc.ahead() || doc.meaning != nil && doc.meaning.unplaced() {
			ahead = append(ahead, stateKey)
		}
	}
	return ahead
}

// Unproved returns the state keys of dictionaries of which the homeserver was not asked
// since the last own write whether that stands, and of other own writes that sync has not
// brought. Who knows nothing of writes may have written over them.
func (r *Room) Unproved() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var unproved []string
	for stateKey, doc := range r.docs {
		if doc.ahead() || doc.meaning != nil && doc.unproved {
			unproved = append(unproved, stateKey)
		}
	}
	return unproved
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
		doc.last = ""
	}
}

// Forget drops all that is known, as after leaving the room.
func (r *Room) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear()
}

// Expect announces that a snapshot is about to be read: from now on, what sync brings
// counts. Only one load of a room may be under way at a time.
func (r *Room) Expect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loading = !r.loaded
	r.began, r.caught = r.count, r.behind
	for _, doc := range r.docs {
		if doc.meaning != nil {
			doc.meaning.recall()
		}
	}
}

// Load takes over a snapshot that was read after [Room.Expect]. It reports whether older
// events are wanted, see [Room.Earlier], and whether the homeserver has gone back to a
// state that it had before, as one does that was restored from a backup. [Room.Settle]
// ends the load.
func (r *Room) Load(s Snapshot) (more, back bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded && !r.loading { // forgotten meanwhile
		return false, false
	}
	for _, e := range s.Older {
		r.older(e)
	}
	last := make(map[string]standing) // what stands there by the snapshot
	unsure := make(map[string]bool)   // more than one event may
	seen := make(map[string]bool)
	stands := make(map[string]bool) // the state has it, and not the timeline
	for _, e := range bare(s.State) {
		if r.layout.Owns(e.StateKey) {
			seen[e.ID] = true
			last[e.StateKey], stands[e.StateKey] = r.document(e.StateKey).learn(r.layout, e, false).standing(), true
		}
	}
	for _, e := range s.Timeline {
		if !r.layout.Owns(e.StateKey) {
			continue
		}
		seen[e.ID] = true
		now, ok := last[e.StateKey]
		next := ok && e.Replaces == now.id
		unsure[e.StateKey] = unsure[e.StateKey] || ok && !next
		if ok && e.Replaces == "" && !stands[e.StateKey] {
			e.Replaces = now.id // as far as is known
		}
		known := r.document(e.StateKey).learn(r.layout, e, false)
		if next || !stands[e.StateKey] {
			last[e.StateKey] = known.standing()
		}
	}
	for stateKey, doc := range r.docs {
		now, ok := last[stateKey]
		switch {
		case doc.changed > r.began, doc.ahead(): // there may be later news than the snapshot
			doc.ask = doc.ask || !ok || now.id != doc.id
		case !ok && doc.found:
			doc.vanish()
			back = true
		case !ok:
		case now.id == doc.id:
			doc.ask, doc.fork = unsure[stateKey], unsure[stateKey]
			changed := !equal(doc.standing.dict, now.dict)
			doc.standing = now
			if changed { // else it may be a late own request, which is not followed
				doc.follow()
			}
		case doc.found && doc.id != "" && !seen[doc.id] && slices.Contains(doc.past, now.id):
			doc.stands(now) // what is known is put back
			doc.sent, back = nil, true
		default:
			doc.ask, doc.fork = unsure[stateKey], unsure[stateKey]
			late := doc.late(now, true)
			doc.stands(now)
			doc.sent = nil
			if !late {
				doc.follow()
			}
		}
		r.refresh(stateKey, doc)
	}
	return r.wants(), back
}

// bare marks events that come from the room's state.
func bare(events []Event) []Event {
	marked := slices.Clone(events)
	for i := range marked {
		marked[i].Bare = true
	}
	return marked
}

// older takes over an event of the older type. It stands in where an event of the present
// type is missing.
func (r *Room) older(e Event) {
	dict, err := r.layout.DecodeLegacy(e.StateKey, e.Content)
	if r.loaded || !r.layout.Owns(e.StateKey) || err != nil || len(dict.Entries) == 0 {
		return
	}
	stateKey := e.StateKey
	if r.layout.PerKey { // the key itself, then
		stateKey = r.layout.Of(e.StateKey)
	}
	doc := r.document(stateKey)
	doc.dict, doc.older = dict, true
}

func (r *Room) wants() bool {
	if r.layout.PerKey {
		return false
	}
	for _, doc := range r.docs {
		if doc.meaning.wants() || doc.meaning.unplaced() {
			return true
		}
	}
	return false
}

// Earlier takes over older events than those that are known, the latest first, and
// reports whether still older ones are wanted.
func (r *Room) Earlier(events []Event) (more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, e := range events {
		doc, ok := r.docs[e.StateKey]
		if !ok {
			continue
		}
		if e.Replaces == "" {
			for _, older := range events[i+1:] {
				if older.StateKey == e.StateKey {
					e.Replaces = older.ID // as far as is known
					break
				}
			}
		}
		doc.learn(r.layout, e, true)
	}
	return r.wants()
}

// Settle ends a load. Whatever is still not known then can't be had. It reports whether
// there is something to do, and the keys of which it can't be told for sure what they hold.
func (r *Room) Settle() (todo bool, unsure []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded && !r.loading {
		return false, nil
	}
	r.behind -= r.caught
	first := !r.loaded
	for stateKey, doc := range r.docs {
		if m := doc.meaning; m != nil {
			unsure = append(unsure, m.rule()...)
			if first {
				doc.top = m.next() - 1 + restartDepth // an attempt from before may still arrive
			}
		}
		r.refresh(stateKey, doc)
	}
	early, gone := r.early, r.gone
	r.loaded, r.loading, r.early, r.gone = true, false, nil, nil
	for _, u := range early {
		r.apply(u)
	}
	for _, id := range gone {
		r.redact(id)
	}
	return len(r.todo()) > 0, unsure
}

// restartDepth is how much deeper the first write after a start is.
const restartDepth = 100

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
			doc.ask = false
			doc.stands(doc.learn(r.layout, e, false).standing())
			doc.follow()
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
	before := doc.dict
	doc.mean()
	r.repoint(before, doc.dict)
	r.see(stateKey, doc)
}

// see notes whether a document needs something done.
func (r *Room) see(stateKey string, doc *document) {
	if doc.ask || doc.older || doc.needsMending() || len(doc.loose) > 0 || doc.meaning != nil && doc.meaning.wants() {
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
	if err := doc.readable(); err != nil {
		return wire.Entry{}, false, err
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
		if err := doc.readable(); err != nil {
			return nil, err
		}
		keys = slices.AppendSeq(keys, maps.Keys(doc.dict.Entries))
	}
	return keys, nil
}

// document returns the document of a state key; it makes an empty one if need be.
func (r *Room) document(stateKey string) *document {
	doc, ok := r.docs[stateKey]
	if !ok {
		doc = &document{}
		if !r.layout.PerKey {
			doc.meaning, doc.top = newMeaning(r.layout), restartDepth
		}
		r.docs[stateKey] = doc
	}
	return doc
}
