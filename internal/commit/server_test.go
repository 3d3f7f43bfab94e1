package commit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/wire"
)

var (
	errRefused = errors.New("forbidden")
	errInvalid = errors.New("bad JSON")
	errNoReply = errors.New("connection reset")
)

// A server is a homeserver with one room, whose faults are set by the test.
type server struct {
	room   *replica.Room
	queue  *commit.Queue
	layout wire.Layout

	// fault, if set, decides what becomes of a Put; stored says that an Unknown one is stored.
	fault    func(ctx context.Context, content json.RawMessage) (outcome commit.Outcome, stored bool)
	readErr  func() error
	limit    int
	encrypt  bool
	denied   error
	sealSize int

	mu      sync.Mutex // owns all below
	log     []replica.Event
	synced  int
	state   map[string]replica.Event
	calls   []string // "put", "read", "seal", in their order
	sealed  map[string]json.RawMessage
	removed []string
	failed  []error
}

// load makes the room, which is empty.
func (s *server) load() {
	s.room = replica.New(s.layout)
	s.room.Expect()
	s.room.Restore(nil, nil)
}

// foreign is another writer, who knows what stands in the room.
func (s *server) foreign(key, value string) {
	stateKey := s.layout.Of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	var base wire.Dictionary
	if event, ok := s.state[stateKey]; ok {
		base, _ = s.layout.Decode(stateKey, event.Content)
	}
	s.append(stateKey, base.With(map[string]json.RawMessage{key: json.RawMessage(value)}).Content())
}

// entries returns what stands on the server.
func (s *server) entries(t require.TestingT) map[string]json.RawMessage {
	entries := make(map[string]json.RawMessage)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, event := range s.state {
		dict, err := s.layout.Decode(event.StateKey, event.Content)
		require.NoError(t, err)
		for key, entry := range dict.Entries {
			entries[key] = entry.Raw
		}
	}
	return entries
}

// serve returns a server whose room is loaded with these state events.
func serve(t *testing.T, layout wire.Layout, state, older []replica.Event) *server {
	s := &server{
		layout: layout, room: replica.New(layout), limit: 60_000, sealSize: 60_000,
		state: make(map[string]replica.Event), sealed: make(map[string]json.RawMessage),
	}
	for _, event := range state {
		s.state[event.StateKey] = event
	}
	s.room.Expect()
	s.room.Restore(state, older)
	for _, event := range state {
		s.room.Apply(event)
	}
	return s
}

func (s *server) open(timeout time.Duration) {
	s.queue = commit.NewQueue(s.room, commit.Env{
		Put:       s.put,
		Read:      s.read,
		Limit:     func(string) int { return s.limit },
		Encrypted: func() (bool, error) { return s.encrypt, s.denied },
		Seal:      s.seal,
		SealLimit: s.sealSize,
		Opened:    s.opened,
		Removed:   func(ids []string) { s.locked(func() { s.removed = append(s.removed, ids...) }) },
		Failed:    func(_ string, err error) { s.locked(func() { s.failed = append(s.failed, err) }) },
	}, timeout)
}

// start is serve for one dictionary, with the queue open until the test ends.
func start(t *testing.T, content string) *server {
	s := serve(t, wire.Layout{}, []replica.Event{{ID: "$first", Content: json.RawMessage(content)}}, nil)
	s.opens(t)
	return s
}

func (s *server) opens(t *testing.T) {
	s.open(time.Minute)
	t.Cleanup(func() {
		s.queue.Close(context.Background())
		goleak.VerifyNone(t)
	})
}

func (s *server) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *server) put(ctx context.Context, stateKey string, content json.RawMessage, _ bool) (string, commit.Outcome, error) {
	s.locked(func() { s.calls = append(s.calls, "put") })
	outcome, stored := commit.Stored, true
	if s.fault != nil {
		outcome, stored = s.fault(ctx, content)
	}
	switch outcome {
	case commit.Stored:
		return s.store(stateKey, content), outcome, nil
	case commit.Refused:
		return "", outcome, errRefused
	case commit.Invalid:
		return "", outcome, errInvalid
	case commit.Outdated:
		return "", outcome, errors.New("the room is encrypted now")
	default:
		if stored {
			s.store(stateKey, content)
		}
		return "", outcome, errNoReply
	}
}

func (s *server) store(stateKey string, content json.RawMessage) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.append(stateKey, content)
}

// append stores a state event; the same content again is the same event. The
// caller holds mu.
func (s *server) append(stateKey string, content json.RawMessage) string {
	if event, ok := s.state[stateKey]; ok && wire.Equal(event.Content, content) {
		return event.ID
	}
	event := replica.Event{ID: fmt.Sprintf("$%d", len(s.log)), StateKey: stateKey, Content: slices.Clone(content)}
	s.log = append(s.log, event)
	s.state[stateKey] = event
	return event.ID
}

func (s *server) read(ctx context.Context, stateKey string) (replica.Event, bool, error) {
	s.locked(func() { s.calls = append(s.calls, "read") })
	if s.readErr != nil {
		if err := s.readErr(); err != nil {
			return replica.Event{}, false, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	event, ok := s.state[stateKey]
	return event, ok, nil
}

func (s *server) seal(_ context.Context, content json.RawMessage) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, "seal")
	id := fmt.Sprintf("$sealed%d", len(s.sealed))
	s.sealed[id] = slices.Clone(content)
	return id, nil
}

func (s *server) opened(eventID, key string) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var content map[string]json.RawMessage
	if json.Unmarshal(s.sealed[eventID], &content) != nil || content[key] == nil {
		return nil, false, nil
	}
	value, err := wire.DecodeSealed(content[key])
	return value, err == nil, err
}

// sync brings the next event, if there is one.
func (s *server) sync() bool {
	s.mu.Lock()
	if s.synced == len(s.log) {
		s.mu.Unlock()
		return false
	}
	event := s.log[s.synced]
	s.synced++
	s.mu.Unlock()
	if s.room.Apply(event) {
		s.queue.Wake()
	}
	return true
}

// settles waits until the worker has nothing to do, and what it told is there to see.
func (s *server) settles(t *testing.T) {
	require.Eventually(t, func() bool { return commit.Idle(s.queue) }, 5*time.Second, time.Millisecond)
}

// content returns what stands under a state key.
func (s *server) content(stateKey string) json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state[stateKey].Content
}

func (s *server) did() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// holds checks what stands in the room, on the server and in the replica.
func (s *server) holds(t require.TestingT, want string) {
	got, err := json.Marshal(s.entries(t))
	require.NoError(t, err)
	require.JSONEq(t, want, string(got), "on the server")
	s.remembers(t, want)
}

// remembers checks what reads answer.
func (s *server) remembers(t require.TestingT, want string) {
	entries := make(map[string]json.RawMessage)
	keys, err := s.room.Keys()
	require.NoError(t, err)
	for _, key := range keys {
		entry, _, err := s.room.Get(key)
		require.NoError(t, err)
		entries[key] = entry.Raw
	}
	got, err := json.Marshal(entries)
	require.NoError(t, err)
	require.JSONEq(t, want, string(got), "in the replica")
}

func set(key, value string) commit.Change {
	return commit.Change{Key: key, Value: []byte(value)}
}

func del(key string) commit.Change { return commit.Change{Key: key, Delete: true} }

// gate makes the first Put wait, so that all that is submitted meanwhile is committed together.
type gate struct {
	entered, open chan struct{}
	once          sync.Once
}

func (s *server) gate() *gate {
	g := &gate{entered: make(chan struct{}), open: make(chan struct{})}
	inner := s.fault
	s.fault = func(ctx context.Context, content json.RawMessage) (commit.Outcome, bool) {
		g.once.Do(func() {
			close(g.entered)
			select {
			case <-g.open:
			case <-ctx.Done():
			}
		})
		if ctx.Err() != nil {
			return commit.Unknown, false
		}
		if inner != nil {
			return inner(ctx, content)
		}
		return commit.Stored, true
	}
	return g
}

type result struct {
	existed int
	err     error
}

// together submits writes so that they are committed together, and returns their results.
func (s *server) together(t *testing.T, writes ...[]commit.Change) []result {
	g := s.gate()
	results := make([]result, len(writes))
	var submitting sync.WaitGroup
	submitting.Go(func() { s.queue.Submit(context.Background(), set("opener", "0")) })
	<-g.entered
	for i, changes := range writes {
		before := commit.Pending(s.queue)
		submitting.Go(func() {
			results[i].existed, results[i].err = s.queue.Submit(context.Background(), changes...)
		})
		require.Eventually(t, func() bool { return commit.Pending(s.queue) > before }, 5*time.Second, 50*time.Microsecond)
	}
	s.locked(func() { s.calls = nil })
	close(g.open)
	submitting.Wait()
	return results
}

func sorted(m map[string]json.RawMessage) []string { return slices.Sorted(maps.Keys(m)) }
