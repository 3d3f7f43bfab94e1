package matrix

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-joe/matrix-memory/internal/journal"
	"github.com/go-joe/matrix-memory/internal/outlet"
	"github.com/go-joe/matrix-memory/internal/room"
	"github.com/go-joe/matrix-memory/internal/session"
)

// A Memory keeps a bot's memory in Matrix rooms. It is a joe.Module, to hand to
// joe.New, and a joe.Memory on the default room. In a handler wrapped in
// [Memory.InEventRoom] it is the memory of the room that the message came from.
//
// All methods but Open and Apply may be called concurrently. Every error is an
// [*Error].
type Memory struct {
	options
	conf    *Config // a pointer, so that printing a Memory shows no secrets
	session *session.Session
	rooms   *room.Rooms      // set before the session is opened
	journal *journal.Journal // nil: there is none

	mu     sync.Mutex // held while home is set, what others change begins to be told, or the memory is closed
	opened atomic.Bool
	closed atomic.Bool
	home   atomic.Pointer[room.Room] // nil until the memory is open
	ended  chan struct{}             // closed when the first Close has ended

	bindings bindings

	outlet  outlet.Outlet
	tells   bool               // what others change is told to a bot
	others  *room.Watcher      // of that; nil: there is no bot
	telling sync.WaitGroup     // the goroutine that tells it
	hush    context.CancelFunc // ends it; mu owns it
}

// Set stores a value under a key, any string. It returns nil only after the
// homeserver has acknowledged the value, or, with Config.Journal, once it is on disk;
// if there is an error, the value that was there before is still what Get returns. When
// no answer came, the homeserver may have stored the value all the same, and the error says so: see
// [ErrUnknownOutcome]. If the value is there already, nothing is written: the
// homeserver is asked whether that is still so.
//
// Any bytes can be stored; JSON stands natively in the state event.
func (m *Memory) Set(key string, value []byte) error {
	r, err := m.target(key)
	if err != nil {
		return fail("set", m.conf.DefaultRoom, key, err)
	}
	b := m.budget()
	defer b.End()
	return fail("set", r.ID().String(), key, r.Set(&b, key, value))
}

// Get returns the value under a key, and whether there is one. A loaded room is
// asked without touching the network, but for a value that was sent encrypted:
// that is fetched when it is first read, and others with it once a second is
// read. JSON comes back equal, but members may have another order and white space
// may be gone; other bytes come back as they were.
//
// With Config.Journal, changes that are not delivered yet are seen at once, and so is what
// rooms held before a start, encrypted values that were read before included. Keys of
// joe.Auth are an error between a start and the first connection: they may have been
// revoked meanwhile.
func (m *Memory) Get(key string) ([]byte, bool, error) {
	r, err := m.target(key)
	if err != nil {
		return nil, false, fail("get", m.conf.DefaultRoom, key, err)
	}
	b := m.budget()
	defer b.End()
	value, ok, err := r.Get(&b, key)
	return value, ok, fail("get", r.ID().String(), key, err)
}

// Delete removes a key and reports whether it was there. If it is not, as far as the
// memory has heard, nothing is written: the homeserver is asked whether that is so, and
// a key that is there after all is removed. Where the change may wait in Config.Journal,
// nobody is asked.
func (m *Memory) Delete(key string) (bool, error) {
	r, err := m.target(key)
	if err != nil {
		return false, fail("delete", m.conf.DefaultRoom, key, err)
	}
	b := m.budget()
	defer b.End()
	n, err := r.Delete(&b, key)
	return n > 0, fail("delete", r.ID().String(), key, err)
}

// Keys returns all keys, in no particular order. With a journal and no connection yet since the
// start, they are those that were there when the bot last heard; of joe.Auth's keys, which others
// may have removed since, Get says an error until it has one.
func (m *Memory) Keys() ([]string, error) {
	r, err := m.bound()
	if err != nil {
		return nil, fail("keys", m.conf.DefaultRoom, "", err)
	}
	b := m.budget()
	defer b.End()
	keys, err := r.Keys(&b)
	home := m.home.Load()
	if err != nil || r.ID() == home.ID() {
		return keys, fail("keys", r.ID().String(), "", err)
	}
	trusted, err := home.Keys(&b)
	if err != nil {
		return nil, fail("keys", home.ID().String(), "", err)
	}
	return withPermissions(keys, trusted), nil
}

// permissions is the prefix of the keys under which joe.Auth keeps who may do
// what. They always belong to the default room: whoever runs another room could
// otherwise grant themselves rights there.
const permissions = "joe.permissions."

// withPermissions replaces the permission keys of a bound room by the default room's.
func withPermissions(keys, trusted []string) []string {
	keys = slices.DeleteFunc(keys, isPermission)
	for _, key := range trusted {
		if isPermission(key) {
			keys = append(keys, key)
		}
	}
	return keys
}

func isPermission(key string) bool { return strings.HasPrefix(key, permissions) }

// target returns the room that an operation on a key is about.
func (m *Memory) target(key string) (*room.Room, error) {
	if isPermission(key) {
		return m.homeRoom()
	}
	return m.bound()
}

// bound returns the room that the calling goroutine is bound to, or else the
// default room.
func (m *Memory) bound() (*room.Room, error) {
	home, err := m.homeRoom()
	if err != nil {
		return nil, err
	}
	if r := m.bindings.current(); r != nil {
		return r, nil
	}
	return home, nil
}

// homeRoom returns the default room, unless the memory is closed or not open.
func (m *Memory) homeRoom() (*room.Room, error) {
	home := m.home.Load()
	switch {
	case m.closed.Load():
		return nil, ErrClosed
	case home == nil:
		return nil, errNotOpen
	}
	return home, nil
}

func (m *Memory) budget() room.Budget {
	return room.NewBudget(context.Background(), m.conf.Timeout)
}
