package room

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"maunium.net/go/mautrix/event"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// A vault is what is known of a room's encrypted events.
type vault struct {
	mu     sync.RWMutex // owns what follows
	events map[string]*sealed
	limit  int // of events, after which those without a use are dropped
}

// A sealed is an encrypted event that the state points at. Several keys can point
// at the same one.
type sealed struct {
	values atomic.Pointer[map[string]opened] // nil until it is decrypted; never changed after that
	asked  atomic.Bool                       // Get has asked for it

	lock    *semaphore.Weighted // held while the event is fetched and decrypted; owns what follows
	event   *event.Event        // as it stands in the room; nil until it is fetched
	own     bool                // the bot sent it just now
	kept    bool                // the event is from the journal, and may have been redacted since
	missing error               // why it could not be fetched
	until   time.Time           // when to ask for it again
}

// opened is the value under a key of an encrypted event.
type opened struct {
	value []byte
	err   error
}

// event returns the record of an event, and makes it if need be. inUse tells
// which events have to stay.
func (v *vault) event(eventID string, inUse func(eventID string) bool) *sealed {
	v.mu.RLock()
	s, ok := v.events[eventID]
	v.mu.RUnlock()
	if ok {
		return s
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if s, ok := v.events[eventID]; ok {
		return s
	}
	if len(v.events) >= v.limit { // others overwrite values too, and nobody says so
		for other := range v.events {
			if !inUse(other) {
				delete(v.events, other)
			}
		}
		v.limit = max(1024, 2*len(v.events))
	}
	if v.events == nil {
		v.events = make(map[string]*sealed)
	}
	s = &sealed{lock: semaphore.NewWeighted(1)}
	v.events[eventID] = s
	return s
}

// knows says whether an event is in use.
func (v *vault) knows(eventID string) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.events[eventID] != nil
}

func (v *vault) forget(eventID string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.events, eventID)
}

// peek returns what an event is known to hold under a key: commit.Env's Opened.
func (v *vault) peek(eventID, key string) (value []byte, known bool, err error) {
	v.mu.RLock()
	s := v.events[eventID]
	v.mu.RUnlock()
	if s == nil {
		return nil, false, nil
	}
	values := s.values.Load()
	if values == nil {
		return nil, false, nil
	}
	found, ok := (*values)[key]
	return found.value, ok && found.err == nil, found.err
}

// hold notes what an event holds.
func (s *sealed) hold(content json.RawMessage) error {
	// Inside the event stands a dictionary, as in the state.
	dictionary, err := wire.Layout{}.Decode("", content)
	if err != nil {
		return err
	}
	values := make(map[string]opened, len(dictionary.Entries))
	for key, entry := range dictionary.Entries {
		value, err := wire.DecodeSealed(entry.Raw)
		values[key] = opened{value, err}
	}
	s.values.Store(&values)
	return nil
}
