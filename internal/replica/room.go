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
//
// A room that takes another one's place goes on from what that one means: [Room.Leave] and
// [Room.Inherit]. What the homeserver copied there says nothing by itself.
//
// What is known outlives the process: [Room.Save] and [Room.Restore]. So do changes that
// were sent and of which nobody knows whether they arrived: see [Attempt].
package replica

import (
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// ErrNotLoaded says that the room's state is not known, so that nothing can be
// read from it or built upon it.
var ErrNotLoaded = errors.New("the room's state is not loaded, or the bot has left the room")

// A Room is the replica of one room. It is safe for concurrent use.
type Room struct {
	layout wire.Layout
	self   string // the bot's user ID
	random io.Reader

	tell     func([]Change) // nil: nobody listens
	redacted string         // the event that is being redacted; "": none is
	taking   bool           // what another room left is being taken over

	mu       sync.RWMutex // owns tell and what follows it, and all below, documents included
	docs     map[string]*document
	pointers map[string]int  // how many entries point at an encrypted event
	busy     map[string]bool // state keys of documents that need something done
	loaded   bool
	loading  bool
	begun    bool     // a load has ended since the start
	reached  int64    // the greatest depth of an attempt from before the start, as far as that is known
	began    int      // the count when loading began
	count    int      // of changes
	behind   int      // how often events may have been missed
	caught   int      // the same when loading began
	early    []Update // what sync brought while loading for the first time
	gone     []string // what was redacted meanwhile
	lost     []string // events that the homeserver has gone back from: see Lost
}

// New returns the replica of a room that is not loaded yet. self is the bot's user ID.
func New(layout wire.Layout, self string) *Room {
	r := &Room{layout: layout, self: self, random: rand.Reader}
	r.clear()
	return r
}

func (r *Room) clear() {
	r.docs, r.pointers, r.busy = make(map[string]*document), make(map[string]int), make(map[string]bool)
	r.loaded, r.loading, r.begun, r.early, r.gone, r.behind, r.caught = false, false, false, nil, nil, 0, 0
}

// StateKey returns the state key of the event that holds a key.
func (r *Room) StateKey(key string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.stateKey(key)
}

// stateKey returns the state key of the event that holds a key. Where opsdroid has put one
// under a state key of its own, the key stays there, deleted or not.
func (r *Room) stateKey(key string) string {
	usual := r.layout.Of(key)
	other, ok := r.layout.Other(key)
	if !ok || strings.HasPrefix(other, "@") && other != r.self { // which only that user may write
		return usual
	}
	doc, ok := r.docs[other]
	if !ok || !doc.found || doc.err != nil {
		return usual
	}
	if _, holds := doc.dict.Entries[key]; holds || len(doc.dict.Entries) == 0 {
		return other
	}
	if doc, ok := r.docs[usual]; ok && doc.found { // of two keys that opsdroid puts there, it has put the other one
		return usual
	}
	return other
}

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
	return r.behind > 0 || ok && doc.wants()
}

// Unplaced returns the own writes of dictionaries that were acknowledged and of which it
// is not known what they replaced.
func (r *Room) Unplaced() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var unplaced []string
	for _, doc := range r.docs {
		if doc.meaning == nil {
			continue
		}
		if doc.ahead() {
			unplaced = append(unplaced, doc.id)
		}
		unplaced = append(unplaced, doc.meaning.unplaced()...)
	}
	return unplaced
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

// Lost returns, once, the events that stood in the room until the homeserver went back to what stood
// there before, with no event to explain it. What is known counts, and is put back.
func (r *Room) Lost() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lost := r.lost
	r.lost = nil
	return lost
}

// Stands says whether a state event stands under a state key, as far as is known.
func (r *Room) Stands(stateKey string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	doc, ok := r.docs[stateKey]
	return ok && doc.found
}

// Forget drops all that is known, as after leaving the room.
func (r *Room) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear()
}

// Get returns the entry that stands under a key.
func (r *Room) Get(key string) (wire.Entry, bool, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.loaded {
		return wire.Entry{}, false, ErrNotLoaded
	}
	doc, ok := r.docs[r.stateKey(key)]
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
	for stateKey, doc := range r.docs {
		if err := doc.readable(); err != nil {
			return nil, err
		}
		for key := range doc.dict.Entries {
			if r.stateKey(key) == stateKey {
				keys = append(keys, key)
			}
		}
	}
	return keys, nil
}

// document returns the document of a state key; it makes an empty one if need be.
func (r *Room) document(stateKey string) *document {
	doc, ok := r.docs[stateKey]
	if !ok {
		doc = &document{start: r.loaded && r.behind == 0}
		if !r.layout.PerKey {
			doc.meaning, doc.top = newMeaning(r.layout), max(restartDepth, r.reached)
		}
		r.docs[stateKey] = doc
	}
	return doc
}
