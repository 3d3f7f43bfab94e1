package matrix

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/go-joe/matrix-memory/internal/room"
)

// InRoom returns the memory of another room: a name from Config.Rooms, an alias
// or a room ID. The room is looked up and loaded at the first use, which also
// says if there is no such room or the bot is not in it. The bindings of
// [Memory.InEventRoom] do not concern it.
//
// With a journal, an alias that was looked up once is known off line. If it was moved to another
// room meanwhile, what was set through it before the bot was connected goes to the old room; then
// the alias means the new one, and the log says so.
func (m *Memory) InRoom(name string) *Room {
	return &Room{memory: m, name: name, ctx: context.Background(), found: new(atomic.Pointer[room.Room])}
}

// A Room is the memory of one room, with the methods of bot.Store. It is safe
// for concurrent use, and cheap to make. Every error is an [*Error].
type Room struct {
	memory *Memory
	name   string
	ctx    context.Context
	found  *atomic.Pointer[room.Room] // to nil until the first use; shared by the handles of WithContext
}

// WithContext returns a handle on the same room whose operations end with the
// context as well, not only with Config.Timeout; errors.Is finds the context's error
// then. A change that the memory had begun to send is not taken back: the memory goes
// on with it, at most until Config.Timeout is over, and the error is an
// [ErrUnknownOutcome] as well. The context's values are not used.
func (r *Room) WithContext(ctx context.Context) *Room {
	if ctx == nil {
		panic("matrix: WithContext needs a context")
	}
	return &Room{memory: r.memory, name: r.name, ctx: ctx, found: r.found}
}

// Set stores a value, encoded as bot.Store does, under a key. See [Memory.Set].
func (r *Room) Set(key string, value interface{}) error {
	b := r.budget()
	defer b.End()
	found, err := r.use(&b, "set", key)
	if err != nil {
		return err
	}
	data, err := r.memory.encoder.Encode(value)
	if err != nil {
		err = fmt.Errorf("encoding the value: %w", err)
	} else {
		err = found.Set(&b, key, data)
	}
	return r.fail("set", found.ID().String(), key, err)
}

// Get decodes the value under a key into what value points at, and reports
// whether there is one. With a nil value it only reports. An error of decoding does not
// quote the value; errors.As finds the encoder's own, which may.
func (r *Room) Get(key string, value interface{}) (bool, error) {
	b := r.budget()
	defer b.End()
	found, err := r.use(&b, "get", key)
	if err != nil {
		return false, err
	}
	data, ok, err := found.Get(&b, key)
	if err == nil && ok && value != nil {
		if err = r.memory.encoder.Decode(data, value); err != nil {
			ok, err = false, &undecoded{value, err}
		}
	}
	return ok, r.fail("get", found.ID().String(), key, err)
}

// Delete removes a key and reports whether it was there. See [Memory.Delete].
func (r *Room) Delete(key string) (bool, error) {
	n, err := r.DeleteAll(key)
	return n > 0, err
}

// DeleteAll removes keys and returns how many of them were there. Of those that are
// not it makes sure as [Memory.Delete] does. Where the memory is one dictionary, that
// is one request, and all or none are removed, as they are where they may wait in a
// journal; with a state event for each key it is one request for each, and if some fail,
// the others are removed all the same and counted. The error names the first key
// that failed, and its text the others too.
func (r *Room) DeleteAll(keys ...string) (int, error) {
	first := ""
	if len(keys) > 0 {
		first = keys[0]
	}
	b := r.budget()
	defer b.End()
	found, err := r.use(&b, "delete", first)
	if err != nil {
		return 0, err
	}
	n, err := found.Delete(&b, keys...)
	return n, r.fail("delete", found.ID().String(), first, err)
}

// Keys returns all keys, in no particular order.
func (r *Room) Keys() ([]string, error) {
	b := r.budget()
	defer b.End()
	found, err := r.use(&b, "keys", "")
	if err != nil {
		return nil, err
	}
	keys, err := found.Keys(&b)
	return keys, r.fail("keys", found.ID().String(), "", err)
}

// fail is [fail], and its error says so if the handle's context has ended.
func (r *Room) fail(op, where, key string, err error) error {
	err = fail(op, where, key, err)
	if ended := r.ctx.Err(); err != nil && ended != nil && !errors.Is(err, ended) {
		failed := err.(*Error)
		failed.Err = fmt.Errorf("%w: %w", failed.Err, ended)
	}
	return err
}

func (r *Room) budget() room.Budget { return room.NewBudget(r.ctx, r.memory.conf.Timeout) }

// use returns the room behind the handle, ready for reading and writing. One that
// the bot has left since is looked up again, as an alias may have been moved.
func (r *Room) use(b *room.Budget, op, key string) (*room.Room, error) {
	if _, err := r.memory.homeRoom(); err != nil {
		return nil, r.fail(op, r.name, key, err)
	}
	found := r.found.Load()
	if err := r.ctx.Err(); err != nil {
		where := r.name
		if found != nil {
			where = found.ID().String()
		}
		return nil, fail(op, where, key, err)
	}
	if found == nil || !found.Loaded() {
		var err error
		if found, err = r.memory.rooms.Find(b.Context(), r.name); err != nil {
			return nil, r.fail(op, r.name, key, err)
		}
		if r.memory.session.IsConnected() { // else the alias may have been moved
			r.found.Store(found)
		}
	}
	return found, nil
}
