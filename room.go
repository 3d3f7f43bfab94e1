package matrix

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/session"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// A room is one room's memory: its replica, and the queue of its writes.
type room struct {
	memory  *Memory
	id      id.RoomID
	replica *replica.Room
	queue   *commit.Queue
	load    sync.Mutex // held while the state is read
	used    sync.Once  // what a room needs at its first use
	vault   vault
	misses  atomic.Int32 // encrypted events that Get first asked for since the last read-ahead

	mu     sync.RWMutex // owns access
	access access
}

func (m *Memory) newRoom(roomID id.RoomID) *room {
	r := &room{memory: m, id: roomID, replica: replica.New(m.layout)}
	r.queue = commit.NewQueue(r.replica, commit.Env{
		Put:       r.put,
		Read:      r.read,
		Limit:     r.limit,
		Encrypted: r.encrypted,
		Seal:      r.seal,
		SealLimit: r.sealLimit(),
		Opened:    r.vault.peek,
		Removed:   r.removed,
		Failed: func(stateKey string, err error) {
			m.log.WithField("room", roomID.String()).WithError(explain(err)).Warn("The memory could not do what no handler waits for")
		},
	}, m.conf.Timeout)
	return r
}

// find returns the room that is called by a name, an alias or an ID, ready for use.
func (m *Memory) find(name string) (*room, error) {
	ctx := context.Background() // every request is bounded by the session
	roomID, err := m.session.Resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	return m.roomByID(ctx, roomID)
}

func (m *Memory) roomByID(ctx context.Context, roomID id.RoomID) (*room, error) {
	r, err := m.register(roomID)
	if err != nil {
		return nil, err
	}
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// register returns the room with this ID, and makes it if need be.
func (m *Memory) register(roomID id.RoomID) (*room, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return nil, ErrClosed
	}
	r, ok := m.rooms[roomID]
	if !ok {
		r = m.newRoom(roomID)
		m.rooms[roomID] = r
	}
	return r, nil
}

// update takes over what sync brought of a room. Rooms that nobody has asked for
// yet are passed over: they are read when they are first used.
func (m *Memory) update(u session.Update) {
	m.mu.RLock()
	r := m.rooms[u.Room]
	m.mu.RUnlock()
	switch {
	case r == nil:
	case u.Left:
		r.replica.Forget()
	default:
		r.apply(u)
	}
}

// ready loads the room's state unless it is loaded.
func (r *room) ready(ctx context.Context) error {
	if !r.replica.Loaded() {
		r.load.Lock()
		defer r.load.Unlock()
	}
	if !r.replica.Loaded() {
		r.replica.Expect() // first follow, then read: nothing is missed in between
		state, err := r.memory.session.State(ctx, r.id)
		if err != nil {
			r.replica.Forget()
			return err
		}
		r.restore(state)
	}
	r.used.Do(func() {
		r.queue.Wake() // a memory under the older event type is copied now
		r.warn()
	})
	return nil
}

// restore takes over the room's whole state.
func (r *room) restore(state []*event.Event) {
	var latest, older []replica.Event
	for _, evt := range state {
		switch evt.Type.Type {
		case r.memory.eventType.Type:
			latest = append(latest, stateEvent(evt))
		case olderType:
			older = append(older, stateEvent(evt))
		default:
			r.note(evt)
		}
	}
	if r.replica.Restore(latest, older) {
		r.queue.Wake()
	}
}

// apply takes over what is new in the room.
func (r *room) apply(u session.Update) {
	todo := false
	for _, evt := range u.State {
		if evt.Type.Type == r.memory.eventType.Type {
			todo = r.replica.Apply(stateEvent(evt)) || todo
		} else {
			r.note(evt)
		}
	}
	for _, eventID := range u.Redacted {
		if r.replica.Redacted(eventID.String()) {
			r.memory.log.WithField("room", r.id.String()).WithField("event", eventID.String()).
				Warn("Somebody redacted a state event that holds memory; reading it again")
			todo = true
		}
	}
	if todo {
		r.queue.Wake()
	}
}

func stateEvent(evt *event.Event) replica.Event {
	return replica.Event{ID: evt.ID.String(), StateKey: evt.GetStateKey(), Content: evt.Content.VeryRaw}
}

// get returns the value under a key.
func (r *room) get(key string) ([]byte, bool, error) {
	if !r.replica.Loaded() {
		if err := r.ready(context.Background()); err != nil {
			return nil, false, r.fail("get", key, err)
		}
	}
	entry, ok, err := r.replica.Get(key)
	switch {
	case err != nil:
		return nil, false, r.fail("get", key, err)
	case !ok:
		return nil, false, nil
	case entry.Err != nil:
		return nil, false, r.fail("get", key, entry.Err)
	}
	value := entry.Value
	if entry.Pointer != "" && value == nil {
		if value, err = r.open(key, entry.Pointer); err != nil {
			return nil, false, r.fail("get", key, err)
		}
		r.replica.Open(key, entry.Pointer, value)
	}
	return bytes.Clone(value), true, nil
}

func (r *room) set(key string, value []byte) error {
	_, err := r.submit("set", key, commit.Change{Key: key, Value: bytes.Clone(value)})
	return err
}

func (r *room) delete(keys ...string) (int, error) {
	changes := make([]commit.Change, len(keys))
	for i, key := range keys {
		changes[i] = commit.Change{Key: key, Delete: true}
	}
	name := ""
	if len(keys) > 0 {
		name = keys[0]
	}
	return r.submit("delete", name, changes...)
}

// submit commits changes; key is the one to name in an error.
func (r *room) submit(op, key string, changes ...commit.Change) (int, error) {
	if err := r.ready(context.Background()); err != nil {
		return 0, r.fail(op, key, err)
	}
	n, err := r.queue.Submit(changes...)
	if err != nil {
		return n, r.fail(op, key, err)
	}
	return n, nil
}

func (r *room) keys() ([]string, error) {
	if err := r.ready(context.Background()); err != nil {
		return nil, r.fail("keys", "", err)
	}
	keys, err := r.replica.Keys()
	if err != nil {
		return nil, r.fail("keys", "", err)
	}
	return keys, nil
}

func (r *room) fail(op, key string, err error) error {
	err = explain(err)
	if errors.Is(err, ErrForbidden) && op != "get" && op != "keys" {
		if lack := r.lack(); lack != "" {
			err = fmt.Errorf("%w; %s", err, lack)
		}
	}
	return &Error{Op: op, Room: r.id.String(), Key: key, Err: err}
}

// put stores a state event: commit.Env's Put.
func (r *room) put(ctx context.Context, stateKey string, content json.RawMessage) (string, commit.Outcome, error) {
	eventID, acted, err := r.memory.session.PutState(ctx, r.id, r.memory.eventType, stateKey, content)
	switch {
	case err == nil:
		return eventID.String(), commit.Stored, nil
	case acted:
		return "", commit.Unknown, err
	case invalid(err):
		return "", commit.Invalid, err
	default:
		return "", commit.Refused, err
	}
}

// read reads a state event: commit.Env's Read.
func (r *room) read(ctx context.Context, stateKey string) (replica.Event, bool, error) {
	evt, err := r.memory.session.StateEvent(ctx, r.id, r.memory.eventType, stateKey)
	if err != nil || evt == nil {
		return replica.Event{}, false, err
	}
	return stateEvent(evt), true, nil
}

func (r *room) limit(stateKey string) int {
	return wire.EventLimit(r.id.String(), r.memory.Client().UserID.String(), r.memory.conf.EventType, stateKey)
}
