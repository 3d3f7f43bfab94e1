package room

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/session"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// A Room is one room's memory: its replica, and the queue of its writes. Its methods
// may be called concurrently.
type Room struct {
	rooms   *Rooms
	id      id.RoomID
	replica *replica.Room
	queue   *commit.Queue
	load    *semaphore.Weighted // held while the state is read
	used    sync.Once           // what a room needs at its first use
	vault   vault
	misses  atomic.Int32 // encrypted events that Get first asked for since the last read-ahead
	looking atomic.Bool  // the state is read after a gap of sync, or after sync failed

	mu     sync.RWMutex // owns access
	access access
}

func newRoom(rs *Rooms, roomID id.RoomID) *Room {
	r := &Room{rooms: rs, id: roomID, replica: replica.New(rs.Layout), load: semaphore.NewWeighted(1)}
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
			r.log().WithError(explain(err)).Warn("The memory could not do what no handler waits for")
		},
	}, rs.Timeout)
	return r
}

// ID returns the room's ID.
func (r *Room) ID() id.RoomID { return r.id }

// Loaded says whether the room's state is known.
func (r *Room) Loaded() bool { return r.replica.Loaded() }

func (r *Room) log() logrus.FieldLogger { return r.rooms.Log.WithField("room", r.id.String()) }

// ready loads the room's state unless it is loaded.
func (r *Room) ready(ctx context.Context) error {
	if !r.replica.Loaded() {
		if err := r.load.Acquire(ctx, 1); err != nil {
			return fmt.Errorf("waiting for the room's state, which is being read: %w", err)
		}
		defer r.load.Release(1)
	}
	if !r.replica.Loaded() {
		r.replica.Expect() // first follow, then read: nothing is missed in between
		state, err := r.rooms.Session.State(ctx, r.id)
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
func (r *Room) restore(state []*event.Event) {
	var latest, older []replica.Event
	for _, evt := range state {
		switch eventType := evt.Type.Type; {
		case eventType == r.rooms.EventType.Type:
			latest = append(latest, stateEvent(evt))
		case eventType == r.rooms.OlderType && eventType != "":
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
func (r *Room) apply(u session.Update) {
	todo := false
	known := make(map[string]bool) // state keys that this update has been about
	for _, evt := range u.State {
		if evt.Type.Type != r.rooms.EventType.Type {
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
			r.log().WithField("event", eventID.String()).
				Warn("Somebody redacted a state event that holds memory; reading it again")
			todo = true
		}
	}
	if todo {
		r.queue.Wake()
	}
	if u.Gap || u.Resumed {
		r.look()
	}
}

// look reads the room's state after a gap of sync, or when sync works again, in the
// background: a redaction that sync has left out shows nowhere else, nor does the order
// of state events where a homeserver has lost it.
func (r *Room) look() {
	if !r.replica.Loaded() || r.looking.Swap(true) {
		return
	}
	r.rooms.inBackground(func() {
		defer r.looking.Store(false)
		state, err := r.rooms.Session.State(r.rooms.reading, r.id)
		if err != nil {
			r.log().WithError(err).
				Warn("The room's state could not be read after sync had failed or left something out; if a state event was redacted meanwhile, its values are still there")
			return
		}
		var latest []replica.Event
		for _, evt := range state {
			if evt.Type.Type == r.rooms.EventType.Type {
				latest = append(latest, stateEvent(evt))
			}
		}
		if r.replica.Compare(latest) {
			r.queue.Wake()
		}
	})
}

func stateEvent(evt *event.Event) replica.Event {
	return replica.Event{ID: evt.ID.String(), StateKey: evt.GetStateKey(), Content: evt.Content.VeryRaw, Time: evt.Timestamp}
}

// Get returns the value under a key.
func (r *Room) Get(b *Budget, key string) ([]byte, bool, error) {
	value, ok, err := r.get(b, key)
	return value, ok, explain(err)
}

func (r *Room) get(b *Budget, key string) ([]byte, bool, error) {
	if !r.replica.Loaded() {
		if err := r.ready(b.Context()); err != nil {
			return nil, false, err
		}
	}
	entry, ok, err := r.replica.Get(key)
	switch {
	case err != nil:
		return nil, false, err
	case !ok:
		return nil, false, nil
	case entry.Err != nil:
		return nil, false, entry.Err
	}
	value := entry.Value
	if entry.Pointer != "" && value == nil {
		if value, err = r.open(b.Context(), key, entry.Pointer); err != nil {
			return nil, false, err
		}
		r.replica.Open(key, entry.Pointer, value)
	}
	return bytes.Clone(value), true, nil
}

// Keys returns all keys, in no particular order.
func (r *Room) Keys(b *Budget) ([]string, error) {
	if !r.replica.Loaded() {
		if err := r.ready(b.Context()); err != nil {
			return nil, explain(err)
		}
	}
	keys, err := r.replica.Keys()
	return keys, explain(err)
}

// Set stores a value under a key.
func (r *Room) Set(b *Budget, key string, value []byte) error {
	_, err := r.submit(b, commit.Change{Key: key, Value: bytes.Clone(value)})
	return err
}

// Delete removes keys and returns how many of them were there. A [KeyError] says
// which one failed.
func (r *Room) Delete(b *Budget, keys ...string) (int, error) {
	changes := make([]commit.Change, len(keys))
	for i, key := range keys {
		changes[i] = commit.Change{Key: key, Delete: true}
	}
	return r.submit(b, changes...)
}

// submit commits changes.
func (r *Room) submit(b *Budget, changes ...commit.Change) (int, error) {
	if len(changes) == 0 {
		return 0, nil
	}
	if err := r.ready(b.Context()); err != nil {
		return 0, r.refused(err)
	}
	n, err := r.queue.Submit(b.Context(), changes...)
	var failed *KeyError
	if errors.As(err, &failed) {
		return n, &KeyError{Key: failed.Key, Err: r.refused(failed.Err)}
	}
	return n, err
}

// refused explains why a write failed.
func (r *Room) refused(err error) error {
	err = explain(err)
	if errors.Is(err, ErrForbidden) {
		if lack := r.lack(); lack != "" {
			err = fmt.Errorf("%w; %s", err, lack)
		}
	}
	return err
}

// errEncrypted says that a room has become encrypted since a content was made for it.
var errEncrypted = errors.New("the room has become encrypted meanwhile")

// put stores a state event: commit.Env's Put.
func (r *Room) put(ctx context.Context, stateKey string, content json.RawMessage, encrypted bool) (string, commit.Outcome, error) {
	eventID, acted, err := r.rooms.Session.PutState(ctx, r.id, r.rooms.EventType, stateKey, content, func() error {
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
func (r *Room) read(ctx context.Context, stateKey string) (replica.Event, bool, error) {
	evt, err := r.rooms.Session.StateEvent(ctx, r.id, r.rooms.EventType, stateKey)
	if err != nil || evt == nil {
		return replica.Event{}, false, err
	}
	return stateEvent(evt), true, nil
}

func (r *Room) limit(stateKey string) int {
	return wire.EventLimit(r.id.String(), r.rooms.userID().String(), r.rooms.EventType.Type, stateKey)
}
