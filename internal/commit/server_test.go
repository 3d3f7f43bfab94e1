package commit_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// window is how many of the last events a snapshot has.
const window = 10

// A server is a homeserver with one room.
type server struct {
	layout wire.Layout
	silent bool // it does not say what events replaced

	// forks, if set, says of an event whether it was sent at the same moment as the one that
	// stands there, and which of the two stands there then.
	forks func() (forked, wins bool)

	mu    sync.Mutex      // owns all below
	log   []replica.Event // in the order in which sync brings them
	state map[string]int  // what stands there, in the log, by state key
	late  []func()        // requests that are still on their way
	came  int             // how many events there were after the last one of these
}

// add stores a state event and returns its ID; the same content again is the same event.
// The caller holds mu.
func (s *server) add(sender, stateKey string, content json.RawMessage, forked, wins bool) string {
	e := replica.Event{
		ID: fmt.Sprintf("$%d", len(s.log)), StateKey: stateKey, Sender: sender,
		Content: slices.Clone(content), Time: 1_700_000_000_000 + int64(len(s.log)),
	}
	stands, ok := s.state[stateKey]
	if ok {
		now := s.log[stands]
		if wire.Equal(now.Content, content) {
			return now.ID
		}
		e.Replaces, e.Before, e.BeforeFrom = now.ID, now.Content, now.Sender
		if forked {
			e.Replaces, e.Before, e.BeforeFrom = now.Replaces, now.Before, now.BeforeFrom
		}
	}
	if !ok || !forked || wins {
		s.state[stateKey] = len(s.log)
	}
	s.log = append(s.log, e)
	return e.ID
}

// store stores a state event and returns its ID.
func (s *server) store(sender, stateKey string, content json.RawMessage) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	forked, wins := false, false
	if s.forks != nil {
		forked, wins = s.forks()
		n, ok := s.state[stateKey]
		forked = forked && ok && s.log[n].Replaces != "" // nobody writes at the moment of the first event
	}
	return s.add(sender, stateKey, content, forked, wins)
}

// fork stores an event that was sent at the same moment as the one that stands there, by
// another memory that had not heard of that, and stands there now.
func (s *server) fork(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stateKey := s.layout.Of(key)
	var base wire.Dictionary
	if stands, ok := s.state[stateKey]; ok {
		if before := s.log[stands].Before; before != nil {
			base, _ = s.layout.Decode(stateKey, before)
		}
	}
	s.add("@other:x", stateKey, s.written(base, key, value, int64(len(s.log)+1)), true, true)
}

// writes is another memory that has heard of what stands there, and writes.
func (s *server) writes(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stateKey := s.layout.Of(key)
	var base wire.Dictionary
	if stands, ok := s.state[stateKey]; ok {
		base, _ = s.layout.Decode(stateKey, s.log[stands].Content)
	}
	s.add("@other:x", stateKey, s.written(base, key, value, int64(1000+len(s.log))), false, false)
}

// written is what another memory puts.
func (s *server) written(base wire.Dictionary, key, value string, depth int64) json.RawMessage {
	dict := base.With(map[string]json.RawMessage{key: json.RawMessage(value)})
	if s.layout.PerKey {
		return dict.Content()
	}
	_, content := dict.Sign(wire.Write{Depth: depth, Keys: map[string]wire.Stamp{key: {Depth: depth}}}, [4]byte{byte(depth)}, "@other:x")
	return content
}

// foreign is a program that knows nothing of stamps: it reads what stands there, and puts
// it back with one key changed.
func (s *server) foreign(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stateKey := s.layout.Of(key)
	members := make(map[string]json.RawMessage)
	if stands, ok := s.state[stateKey]; ok {
		_ = json.Unmarshal(s.log[stands].Content, &members) // it is what was stored
	}
	members[wire.EncodeKey(key)] = json.RawMessage(value)
	content, _ := json.Marshal(members) // it always can be
	s.add("@opsdroid:x", stateKey, content, false, false)
}

// deliver lets a request that is still on its way arrive, if there is one.
func (s *server) deliver() bool {
	s.mu.Lock()
	if len(s.late) == 0 {
		s.mu.Unlock()
		return false
	}
	arrives := s.late[0]
	s.late = s.late[1:]
	s.mu.Unlock()
	arrives()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.came = len(s.log)
	return true
}

// event returns an event as sync and the room's history bring it. The caller holds mu.
func (s *server) event(n int) replica.Event {
	e := s.log[n]
	if s.silent {
		e.Replaces, e.Before, e.BeforeFrom = "", nil, ""
	}
	return e
}

// snapshot returns what stands in the room, with the last events, and all before them,
// the latest first.
func (s *server) snapshot() (now replica.Snapshot, earlier []replica.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := max(0, len(s.log)-window)
	recent := make(map[string]bool)
	for n := first; n < len(s.log); n++ {
		now.Timeline = append(now.Timeline, s.event(n))
		recent[s.log[n].StateKey] = true
	}
	for stateKey, n := range s.state {
		if !recent[stateKey] {
			now.State = append(now.State, s.event(n))
		}
	}
	for n := first - 1; n >= 0; n-- {
		earlier = append(earlier, s.event(n))
	}
	return now, earlier
}

// entries returns what stands in the room.
func (s *server) entries(t require.TestingT) map[string]json.RawMessage {
	entries := make(map[string]json.RawMessage)
	s.mu.Lock()
	defer s.mu.Unlock()
	for stateKey, n := range s.state {
		dict, err := s.layout.Decode(stateKey, s.log[n].Content)
		require.NoError(t, err)
		for key, entry := range dict.Entries {
			entries[key] = entry.Raw
		}
	}
	return entries
}

// content returns what stands under a state key.
func (s *server) content(stateKey string) json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log[s.state[stateKey]].Content
}
