package matrix

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/go-joe/joe"
	"github.com/petermattis/goid"

	"github.com/go-joe/matrix-memory/internal/room"
)

// InEventRoom binds storage to the room that a message came from: in the handler
// that it returns, bot.Store and the memory itself work on that room, for that
// call only. It is the counterpart of opsdroid's decorator memory_in_event_room.
//
//	bot.Respond("remember (.+) is (.+)", memory.InEventRoom(func(msg joe.Message) error {
//		return bot.Store.Set(msg.Matches[0], msg.Matches[1])
//	}))
//
// The message's channel may be a room ID, an alias or a name from Config.Rooms;
// an empty one, as the terminal's, means the default room. If the room is
// unknown, or the bot is not in it, the handler is not run and the error says so.
//
// The binding belongs to the goroutine that runs the handler and ends when the
// handler returns or panics. A goroutine that the handler starts is not bound:
// there, [Memory.InRoom] with msg.Channel is explicit and goes anywhere. Bindings
// nest. What joe.Auth keeps (keys that begin with "joe.permissions.") stays in the
// default room.
func (m *Memory) InEventRoom(handler func(joe.Message) error) func(joe.Message) error {
	return func(msg joe.Message) error {
		r, err := m.eventRoom(msg.Channel)
		if err != nil {
			return err
		}
		defer m.bindings.bind(r)()
		return handler(msg)
	}
}

// eventRoom returns the room that a channel stands for, ready for use.
func (m *Memory) eventRoom(channel string) (*room.Room, error) {
	home, err := m.homeRoom()
	if err != nil || channel == "" {
		return home, fail("bind", m.conf.DefaultRoom, "", err)
	}
	b := m.budget()
	defer b.End()
	r, err := m.rooms.Find(b.Context(), channel)
	if err != nil {
		return nil, fail("bind", channel, "", fmt.Errorf("the handler was not run: %w", err))
	}
	return r, nil
}

// bindings says which goroutine works on which room.
type bindings struct {
	count atomic.Int64 // of the bindings that exist, so that who has none need not look
	mu    sync.RWMutex // owns rooms
	rooms map[int64][]*room.Room
}

// bind binds the calling goroutine to a room and returns how to end that, on the
// same goroutine.
func (b *bindings) bind(r *room.Room) (release func()) {
	goroutine := goid.Get()
	b.mu.Lock()
	b.rooms[goroutine] = append(b.rooms[goroutine], r)
	b.mu.Unlock()
	b.count.Add(1)
	return func() {
		b.count.Add(-1)
		b.mu.Lock()
		defer b.mu.Unlock()
		if outer := b.rooms[goroutine]; len(outer) > 1 {
			b.rooms[goroutine] = outer[:len(outer)-1]
		} else {
			delete(b.rooms, goroutine)
		}
	}
}

// current returns the room that the calling goroutine is bound to, or nil.
func (b *bindings) current() *room.Room {
	if b.count.Load() == 0 {
		return nil
	}
	goroutine := goid.Get()
	b.mu.RLock()
	defer b.mu.RUnlock()
	if stack := b.rooms[goroutine]; len(stack) > 0 {
		return stack[len(stack)-1]
	}
	return nil
}
