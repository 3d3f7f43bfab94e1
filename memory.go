package matrix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-joe/joe"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// A Memory keeps a bot's memory in Matrix rooms. It is a joe.Module, to hand to
// joe.New, and a joe.Memory on the default room. In a handler wrapped in
// [Memory.InEventRoom] it is the memory of the room that the message came from.
//
// All methods but Open and Apply may be called concurrently. Every error is an
// [*Error].
type Memory struct {
	conf       *Config // a pointer, so that printing a Memory shows no secrets
	log        logrus.FieldLogger
	encoder    joe.MemoryEncoder
	ownEncoder bool
	ownClient  bool
	layout     wire.Layout
	eventType  event.Type
	session    *session.Session
	crypto     Crypto              // nil: encryption is not enabled
	fetching   *semaphore.Weighted // bounds how many encrypted events are fetched at the same time

	background  sync.WaitGroup // redactions, reads ahead of encrypted events, and reads after a gap of sync
	redacting   context.Context
	giveUp      context.CancelFunc // ends redactions that take too long
	reading     context.Context
	stopReading context.CancelFunc

	opened atomic.Bool
	closed atomic.Bool // set with mu held
	home   atomic.Pointer[room]

	mu    sync.RWMutex // owns rooms
	rooms map[id.RoomID]*room

	bindings bindings
}

// Set stores a value under a key, any string. It returns nil only after the
// homeserver has acknowledged the value; if there is an error, the value that
// was there before is still what Get returns. When no answer came, the
// homeserver may have stored the value all the same, and the error says so.
//
// Any bytes can be stored; JSON stands natively in the state event.
func (m *Memory) Set(key string, value []byte) error {
	r, err := m.target("set", key)
	if err != nil {
		return err
	}
	b := m.budget()
	defer b.end()
	return r.set(&b, key, value)
}

// Get returns the value under a key, and whether there is one. A loaded room is
// asked without touching the network, but for a value that was sent encrypted:
// that is fetched when it is first read, and others with it once a second is
// read. JSON comes back equal, but members may have another order and white space
// may be gone; other bytes come back as they were.
func (m *Memory) Get(key string) ([]byte, bool, error) {
	r, err := m.target("get", key)
	if err != nil {
		return nil, false, err
	}
	b := m.budget()
	defer b.end()
	return r.get(&b, key)
}

// Delete removes a key and reports whether it was there.
func (m *Memory) Delete(key string) (bool, error) {
	r, err := m.target("delete", key)
	if err != nil {
		return false, err
	}
	b := m.budget()
	defer b.end()
	n, err := r.delete(&b, key)
	return n > 0, err
}

// Keys returns all keys, in no particular order.
func (m *Memory) Keys() ([]string, error) {
	r, err := m.bound("keys", "")
	if err != nil {
		return nil, err
	}
	b := m.budget()
	defer b.end()
	keys, err := r.keys(&b)
	if home := m.home.Load(); err != nil || r == home {
		return keys, err
	} else {
		return m.withPermissions(&b, keys, home)
	}
}

// permissions is the prefix of the keys under which joe.Auth keeps who may do
// what. They always belong to the default room: whoever runs another room could
// otherwise grant themselves rights there.
const permissions = "joe.permissions."

// withPermissions replaces the permission keys of a bound room by the default room's.
func (m *Memory) withPermissions(b *budget, keys []string, home *room) ([]string, error) {
	trusted, err := home.keys(b)
	if err != nil {
		return nil, err
	}
	kept := keys[:0]
	for _, key := range keys {
		if !strings.HasPrefix(key, permissions) {
			kept = append(kept, key)
		}
	}
	for _, key := range trusted {
		if strings.HasPrefix(key, permissions) {
			kept = append(kept, key)
		}
	}
	return kept, nil
}

// target returns the room that an operation on a key is about.
func (m *Memory) target(op, key string) (*room, error) {
	if strings.HasPrefix(key, permissions) {
		return m.homeRoom(op, key)
	}
	return m.bound(op, key)
}

// bound returns the room that the calling goroutine is bound to, or else the
// default room.
func (m *Memory) bound(op, key string) (*room, error) {
	home, err := m.homeRoom(op, key)
	if err != nil {
		return nil, err
	}
	if r := m.bindings.current(); r != nil {
		return r, nil
	}
	return home, nil
}

func (m *Memory) homeRoom(op, key string) (*room, error) {
	home := m.home.Load()
	switch {
	case m.closed.Load():
		return nil, &Error{Op: op, Room: m.conf.DefaultRoom, Key: key, Err: ErrClosed}
	case home == nil:
		return nil, &Error{Op: op, Room: m.conf.DefaultRoom, Key: key, Err: errNotOpen}
	}
	return home, nil
}

// InRoom returns the memory of another room: a name from Config.Rooms, an alias
// or a room ID. The room is looked up and loaded at the first use, which also
// says if there is no such room or the bot is not in it. The bindings of
// [Memory.InEventRoom] do not concern it.
func (m *Memory) InRoom(name string) *Room {
	return &Room{memory: m, name: name}
}

// A Room is the memory of one room, with the methods of bot.Store. It is safe
// for concurrent use, and cheap to make.
type Room struct {
	memory *Memory
	name   string
	room   atomic.Pointer[room]
}

// Set stores a value, encoded as bot.Store does, under a key. See [Memory.Set].
func (r *Room) Set(key string, value interface{}) error {
	b := r.memory.budget()
	defer b.end()
	room, err := r.use(&b, "set", key)
	if err != nil {
		return err
	}
	data, err := r.memory.encoder.Encode(value)
	if err != nil {
		return &Error{Op: "set", Room: room.id.String(), Key: key, Err: fmt.Errorf("encoding the value: %w", err)}
	}
	return room.set(&b, key, data)
}

// Get decodes the value under a key into what value points at, and reports
// whether there is one. With a nil value it only reports.
func (r *Room) Get(key string, value interface{}) (bool, error) {
	b := r.memory.budget()
	defer b.end()
	room, err := r.use(&b, "get", key)
	if err != nil {
		return false, err
	}
	data, ok, err := room.get(&b, key)
	if err != nil || !ok || value == nil {
		return ok, err
	}
	if err := r.memory.encoder.Decode(data, value); err != nil {
		return false, &Error{Op: "get", Room: room.id.String(), Key: key, Err: fmt.Errorf("decoding the value into a %T: %w", value, err)}
	}
	return true, nil
}

// Delete removes a key and reports whether it was there.
func (r *Room) Delete(key string) (bool, error) {
	n, err := r.DeleteAll(key)
	return n > 0, err
}

// DeleteAll removes keys and returns how many of them were there. Where the
// memory is one dictionary, that is one request, and all or none are removed;
// with a state event for each key it is one request for each, and if some fail,
// the others are removed all the same and counted. The error names the first key
// that failed, and its text the others too.
func (r *Room) DeleteAll(keys ...string) (int, error) {
	first := ""
	if len(keys) > 0 {
		first = keys[0]
	}
	b := r.memory.budget()
	defer b.end()
	room, err := r.use(&b, "delete", first)
	if err != nil {
		return 0, err
	}
	return room.delete(&b, keys...)
}

// Keys returns all keys, in no particular order.
func (r *Room) Keys() ([]string, error) {
	b := r.memory.budget()
	defer b.end()
	room, err := r.use(&b, "keys", "")
	if err != nil {
		return nil, err
	}
	return room.keys(&b)
}

// use returns the room behind the handle, ready for reading and writing. One that
// the bot has left since is looked up again, as an alias may have been moved.
func (r *Room) use(b *budget, op, key string) (*room, error) {
	if _, err := r.memory.homeRoom(op, key); err != nil {
		return nil, &Error{Op: op, Room: r.name, Key: key, Err: errors.Unwrap(err)}
	}
	room := r.room.Load()
	if room == nil || !room.replica.Loaded() {
		var err error
		if room, err = r.memory.find(b.context(), r.name); err != nil {
			return nil, &Error{Op: op, Room: r.name, Key: key, Err: explain(err)}
		}
		r.room.Store(room)
	}
	return room, nil
}

// jsonEncoder is joe's default encoder, which joe does not export.
type jsonEncoder struct{}

func (jsonEncoder) Encode(value interface{}) ([]byte, error)     { return json.Marshal(value) }
func (jsonEncoder) Decode(data []byte, target interface{}) error { return json.Unmarshal(data, target) }
