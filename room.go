package matrix

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
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
	load    *semaphore.Weighted // held while the state is read
	used    sync.Once           // what a room needs at its first use
	vault   vault
	misses  atomic.Int32 // encrypted events that Get first asked for since the last read-ahead
	looking atomic.Bool  // the state is read after a gap of sync

	mu     sync.RWMutex // owns access
	access access
}

func (m *Memory) newRoom(roomID id.RoomID) *room {
	r := &room{memory: m, id: roomID, replica: replica.New(m.layout), load: semaphore.NewWeighted(1)}
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
func (m *Memory) find(ctx context.Context, name string) (*room, error) {
	roomID, err := m.session.Resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	r, err := m.roomByID(ctx, roomID)
	if cause := explain(err); !errors.Is(cause, ErrUnknownRoom) && !errors.Is(cause, ErrForbidden) || !m.session.ForgetAlias(name) {
		return r, err
	}
	moved, resolveErr := m.session.Resolve(ctx, name)
	if resolveErr != nil || moved == roomID {
		return nil, err
	}
	return m.roomByID(ctx, moved)
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
		if err := r.load.Acquire(ctx, 1); err != nil {
			return fmt.Errorf("waiting for the room's state, which is being read: %w", err)
		}
		defer r.load.Release(1)
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
			if r.memory.conf.EventType == defaultEventType {
				older = append(older, stateEvent(evt))
			}
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
	known := make(map[string]bool) // state keys that this update has been about
	for _, evt := range u.State {
		if evt.Type.Type != r.memory.eventType.Type {
			r.note(evt)
			continue
		}
		event := stateEvent(evt)
		event.Gap = u.Gap && !known[event.StateKey]
		known[event.StateKey] = true
		todo = r.replica.Apply(event) || todo
	}
	for _, eventID := range u.Redacted {
		r.vault.forget(eventID.String())
		if r.replica.Redacted(eventID.String()) {
			r.memory.log.WithField("room", r.id.String()).WithField("event", eventID.String()).
				Warn("Somebody redacted a state event that holds memory; reading it again")
			todo = true
		}
	}
	if todo {
		r.queue.Wake()
	}
	if u.Gap {
		r.look()
	}
}

// look reads the room's state after a gap of sync, in the background: a redaction
// that sync has left out shows nowhere else.
func (r *room) look() {
	if !r.replica.Loaded() || r.looking.Swap(true) {
		return
	}
	r.memory.inBackground(func() {
		defer r.looking.Store(false)
		state, err := r.memory.session.State(r.memory.reading, r.id)
		if err != nil {
			r.memory.log.WithField("room", r.id.String()).WithError(err).
				Warn("The room's state could not be read after a gap of sync; if a state event was redacted meanwhile, its values are still there")
			return
		}
		var latest []replica.Event
		for _, evt := range state {
			if evt.Type.Type == r.memory.eventType.Type {
				latest = append(latest, stateEvent(evt))
			}
		}
		if r.replica.Compare(latest) {
			r.queue.Wake()
		}
	})
}

// inBackground runs what Close waits for, unless the memory is closed.
func (m *Memory) inBackground(work func()) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.closed.Load() {
		m.background.Go(work)
	}
}

func stateEvent(evt *event.Event) replica.Event {
	return replica.Event{ID: evt.ID.String(), StateKey: evt.GetStateKey(), Content: evt.Content.VeryRaw, Time: evt.Timestamp}
}

// get returns the value under a key.
func (r *room) get(b *budget, key string) ([]byte, bool, error) {
	if !r.replica.Loaded() {
		if err := r.ready(b.context()); err != nil {
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
		if value, err = r.open(b.context(), key, entry.Pointer); err != nil {
			return nil, false, r.fail("get", key, err)
		}
		r.replica.Open(key, entry.Pointer, value)
	}
	return bytes.Clone(value), true, nil
}

func (r *room) set(b *budget, key string, value []byte) error {
	_, err := r.submit(b, "set", commit.Change{Key: key, Value: bytes.Clone(value)})
	return err
}

func (r *room) delete(b *budget, keys ...string) (int, error) {
	changes := make([]commit.Change, len(keys))
	for i, key := range keys {
		changes[i] = commit.Change{Key: key, Delete: true}
	}
	return r.submit(b, "delete", changes...)
}

// submit commits changes.
func (r *room) submit(b *budget, op string, changes ...commit.Change) (int, error) {
	if len(changes) == 0 {
		return 0, nil
	}
	key := changes[0].Key
	if err := r.ready(b.context()); err != nil {
		return 0, r.fail(op, key, err)
	}
	n, err := r.queue.Submit(b.context(), changes...)
	if err == nil {
		return n, nil
	}
	var failed *commit.KeyError
	if errors.As(err, &failed) {
		key, err = failed.Key, failed.Err
	}
	return n, r.fail(op, key, err)
}

func (r *room) keys(b *budget) ([]string, error) {
	if !r.replica.Loaded() {
		if err := r.ready(b.context()); err != nil {
			return nil, r.fail("keys", "", err)
		}
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

// errEncrypted says that a room has become encrypted since a content was made for it.
var errEncrypted = errors.New("the room has become encrypted meanwhile")

// put stores a state event: commit.Env's Put.
func (r *room) put(ctx context.Context, stateKey string, content json.RawMessage, encrypted bool) (string, commit.Outcome, error) {
	eventID, acted, err := r.memory.session.PutState(ctx, r.id, r.memory.eventType, stateKey, content, func() error {
		if now, _ := r.encrypted(); now != encrypted {
			return errEncrypted
		}
		return nil
	})
	switch {
	case err == nil:
		return eventID.String(), commit.Stored, nil
	case acted:
		return "", commit.Unknown, err
	case errors.Is(err, errEncrypted):
		return "", commit.Outdated, err
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
