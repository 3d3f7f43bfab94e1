package commit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/wire"
)

var (
	errRefused = errors.New("forbidden")
	errInvalid = errors.New("bad JSON")
	errNoReply = errors.New("connection reset")
	errGaveWay = errors.New("it gave way")
)

// scene plays a test on a clock of its own, which goes on when all wait.
func scene(t *testing.T, name string, play func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, play) })
}

// passes lets time pass, and waits until what it brought is done.
func passes(d time.Duration) {
	time.Sleep(d) // on the scene's own clock
	synctest.Wait()
}

// A fate is what becomes of a Put.
type fate struct {
	outcome commit.Outcome
	stored  bool // now, where the outcome is Unknown
	late    bool // the homeserver acts upon the request later, or once more
}

// A memory is a replica and a queue, whose faults are set by the test.
type memory struct {
	*server
	name  string // of its account
	older []replica.Event
	room  *replica.Room
	queue *commit.Queue

	denied   error
	sealSize int
	timeout  time.Duration

	nearsighted bool                                                                       // the history can't be had
	sealing     func()                                                                     // what happens at the next sealing, once
	attempted   func(stateKey string, with replica.Attempt, changes []commit.Change) error // nil: it has no journal

	// The server's mu owns these:
	synced int // how many events sync brought
	knows  int // how many were heard of

	own     sync.Mutex // owns all below
	faults             // what tests set
	calls   []string   // "put", "held", "ask", "load", "seal", in their order
	sealed  map[string]json.RawMessage
	removed []string
	failed  []error
}

type faults struct {
	fate    func(ctx context.Context, content json.RawMessage) fate // what becomes of a Put
	asks    func(ctx context.Context) error                         // why nothing can be asked for
	loads   func(ctx context.Context) error                         // why the room can't be loaded
	limit   int
	encrypt bool
	held    chan struct{} // holds back what nobody waits for until it is closed; nil: nothing is
}

// now returns the faults that are set.
func (m *memory) now() faults {
	m.own.Lock()
	defer m.own.Unlock()
	return m.faults
}

// join returns a memory that is to use the room.
func (s *server) join(name string) *memory {
	return &memory{
		server: s, name: name, faults: faults{limit: 60_000}, sealSize: 60_000, timeout: time.Minute,
		room: replica.New(s.layout, name), sealed: make(map[string]json.RawMessage),
	}
}

// serve returns a memory of a room in which contents stand, by state key.
func serve(layout wire.Layout, contents map[string]string) *memory {
	s := &server{layout: layout, state: make(map[string]int)}
	for stateKey, content := range contents {
		s.store("@other:x", stateKey, json.RawMessage(content))
	}
	return s.join("@bot:x")
}

// start returns a memory of one dictionary, which is open until the test ends.
func start(t *testing.T, content string) *memory {
	m := serve(wire.Layout{}, map[string]string{"": content})
	m.opens(t)
	return m
}

// opens opens the memory until the test ends.
func (m *memory) opens(t *testing.T) {
	require.NoError(t, m.open())
	t.Cleanup(func() { m.queue.Close(context.Background()) })
}

func (m *memory) open() error {
	m.queue = commit.NewQueue(m.room, commit.Env{
		Put:       m.put,
		Standing:  m.standing,
		Load:      func(ctx context.Context) error { m.call("load"); return m.load(ctx) },
		Limit:     func(string) int { return m.now().limit },
		Encrypted: func() (bool, error) { return m.now().encrypt, m.denied },
		Seal:      m.seal,
		SealLimit: m.sealSize,
		Opened:    m.opened,
		Removed:   func(ids []string) { m.locked(func() { m.removed = append(m.removed, ids...) }) },
		Attempted: m.attempted,
		Failed:    func(_ string, err error) { m.locked(func() { m.failed = append(m.failed, err) }) },
	}, m.timeout)
	m.server.mu.Lock()
	m.synced = len(m.log)
	m.server.mu.Unlock()
	return m.load(context.Background())
}

func (m *memory) locked(f func()) {
	m.own.Lock()
	defer m.own.Unlock()
	f()
}

func (m *memory) call(what string) {
	m.locked(func() { m.calls = append(m.calls, what) })
}

// did returns what was asked of the homeserver since it was last called.
func (m *memory) did() []string {
	m.own.Lock()
	defer m.own.Unlock()
	did := m.calls
	m.calls = nil
	return did
}

// told returns the failures that the memory has told of.
func (m *memory) told() []error {
	m.own.Lock()
	defer m.own.Unlock()
	return slices.Clone(m.failed)
}

// load does what package room does.
func (m *memory) load(ctx context.Context) error {
	m.room.Expect()
	if loads := m.now().loads; loads != nil {
		if err := loads(ctx); err != nil {
			return err
		}
	}
	m.hears()
	now, earlier := m.snapshot()
	if m.nearsighted {
		earlier = nil
	}
	now.Older = m.older
	more, _ := m.room.Load(now)
	for page := 5; more && len(earlier) > 0; earlier = earlier[min(page, len(earlier)):] {
		more = m.room.Earlier(earlier[:min(page, len(earlier))])
	}
	if todo, _ := m.room.Settle(false); todo {
		m.queue.Wake()
	}
	return nil
}

func (m *memory) put(ctx, idle context.Context, stateKey string, content json.RawMessage, may func() error) (string, commit.Outcome, error) {
	if held := m.now().held; held != nil && idle != nil {
		m.call("held")
		select {
		case <-held:
		case <-idle.Done():
			return "", commit.Outdated, errGaveWay
		case <-ctx.Done():
			return "", commit.Refused, ctx.Err()
		}
	}
	if err := may(); err != nil {
		return "", commit.Outdated, err
	}
	m.call("put")
	f := fate{outcome: commit.Stored}
	if decide := m.now().fate; decide != nil {
		f = decide(ctx, content)
	}
	id := ""
	if f.stored || f.outcome == commit.Stored || f.outcome == commit.Repeated {
		id = m.store(m.name, stateKey, content)
	}
	if f.late {
		m.server.mu.Lock()
		m.late = append(m.late, func() { m.store(m.name, stateKey, content) })
		m.server.mu.Unlock()
	}
	switch f.outcome {
	case commit.Stored, commit.Repeated:
		return id, f.outcome, nil
	case commit.Refused:
		return "", f.outcome, errRefused
	case commit.Invalid:
		return "", f.outcome, errInvalid
	case commit.Outdated:
		return "", f.outcome, errors.New("the room is encrypted now")
	default:
		return "", f.outcome, errNoReply
	}
}

func (m *memory) standing(ctx context.Context, stateKey string) (json.RawMessage, bool, error) {
	m.call("ask")
	if asks := m.now().asks; asks != nil {
		if err := asks(ctx); err != nil {
			return nil, false, err
		}
	}
	m.hears()
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	n, ok := m.state[stateKey]
	if !ok {
		return nil, false, nil
	}
	return m.log[n].Content, true, nil
}

// hears notes that the memory is about to be told of all events.
func (m *memory) hears() {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	m.knows = len(m.log)
}

func (m *memory) seal(_, _ context.Context, content json.RawMessage) (string, error) {
	m.call("seal")
	if then := m.sealing; then != nil {
		m.sealing = nil
		then()
	}
	m.own.Lock()
	defer m.own.Unlock()
	id := fmt.Sprintf("$sealed%d", len(m.sealed))
	m.sealed[id] = slices.Clone(content)
	return id, nil
}

func (m *memory) opened(eventID, key string) ([]byte, bool, error) {
	m.own.Lock()
	defer m.own.Unlock()
	var content map[string]json.RawMessage
	if json.Unmarshal(m.sealed[eventID], &content) != nil || content[key] == nil {
		return nil, false, nil
	}
	value, err := wire.DecodeSealed(content[key])
	return value, err == nil, err
}

// sync brings the next event, if there is one.
func (m *memory) sync() bool { return m.bring(1) }

// bring brings the next events in one answer, so many at most, if there are any.
func (m *memory) bring(most int) bool {
	m.server.mu.Lock()
	var news []replica.Event
	for ; m.synced < len(m.log) && len(news) < most; m.synced++ {
		news = append(news, m.event(m.synced))
	}
	m.knows = max(m.knows, m.synced)
	m.server.mu.Unlock()
	if len(news) == 0 {
		return false
	}
	if m.room.Apply(replica.Update{Timeline: news}) {
		m.queue.Wake()
	}
	return true
}

// syncs brings all events one by one, and waits until what they brought is done.
func (m *memory) syncs() {
	for m.sync() {
	}
	synctest.Wait()
}

// missed says that sync may have left out events.
func (m *memory) missed() {
	m.room.Missed()
	m.queue.Wake()
}

// submit submits changes, and fails the test if they fail.
func (m *memory) submit(t *testing.T, changes ...commit.Change) {
	t.Helper()
	_, err := m.queue.Submit(context.Background(), changes...)
	require.NoError(t, err)
}

// holds checks what stands in the room, and what reads answer.
func (m *memory) holds(t require.TestingT, want string) {
	got, err := json.Marshal(m.entries(t))
	require.NoError(t, err)
	require.JSONEq(t, want, string(got), "in the room")
	m.remembers(t, want)
}

// remembers checks what reads answer.
func (m *memory) remembers(t require.TestingT, want string) {
	entries := make(map[string]json.RawMessage)
	keys, err := m.room.Keys()
	require.NoError(t, err)
	for _, key := range keys {
		entry, _, err := m.room.Get(key)
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

// gate makes the next Put wait until open is closed, or its time is up.
type gate struct {
	entered, open chan struct{}
	once          sync.Once
}

func (m *memory) gate() *gate {
	g := &gate{entered: make(chan struct{}), open: make(chan struct{})}
	inner := m.now().fate
	m.fates(func(ctx context.Context, content json.RawMessage) fate {
		g.once.Do(func() {
			close(g.entered)
			select {
			case <-g.open:
			case <-ctx.Done():
			}
		})
		if ctx.Err() != nil {
			return fate{outcome: commit.Unknown}
		}
		if inner != nil {
			return inner(ctx, content)
		}
		return fate{outcome: commit.Stored}
	})
	return g
}

type result struct {
	existed int
	err     error
}

// together submits writes so that they are committed together, and returns their results.
func (m *memory) together(writes ...[]commit.Change) []result {
	g := m.gate()
	results := make([]result, len(writes))
	var submitting sync.WaitGroup
	submitting.Go(func() { m.queue.Submit(context.Background(), set("opener", "0")) })
	<-g.entered
	for i, changes := range writes {
		submitting.Go(func() {
			results[i].existed, results[i].err = m.queue.Submit(context.Background(), changes...)
		})
		synctest.Wait() // in this order
	}
	m.did()
	close(g.open)
	submitting.Wait()
	return results
}

// fates decides what becomes of a Put from now on; nil: all goes well.
func (m *memory) fates(decide func(context.Context, json.RawMessage) fate) {
	m.locked(func() { m.fate = decide })
}

// asked decides why nothing can be asked for from now on; nil: it can.
func (m *memory) asked(why func(context.Context) error) { m.locked(func() { m.asks = why }) }

// loaded decides why the room can't be loaded from now on; nil: it can.
func (m *memory) loaded(why func(context.Context) error) { m.locked(func() { m.loads = why }) }

// refuses lets Put fail.
func refuses(context.Context, json.RawMessage) fate { return fate{outcome: commit.Refused} }

// hangs never answers.
func hangs(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// bubble plays a part of a property test on a clock of its own, which goes on when all wait.
func bubble(t *testing.T, play func()) {
	var failure any
	synctest.Test(t, func(*testing.T) {
		defer func() { failure = recover() }()
		play()
	})
	if failure != nil {
		panic(failure)
	}
}

// older returns the state events of the older type, by state key.
func older(contents map[string]string) (events []replica.Event) {
	for stateKey, content := range contents {
		events = append(events, replica.Event{ID: "$older" + stateKey, StateKey: stateKey, Sender: "@opsdroid:x", Content: json.RawMessage(content)})
	}
	return events
}

// remembersUnder checks what a read of one key answers.
func (m *memory) remembersUnder(t require.TestingT, key, want string) {
	entry, _, err := m.room.Get(key)
	require.NoError(t, err)
	require.Equal(t, want, string(entry.Raw))
}
