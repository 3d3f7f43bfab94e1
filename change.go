package matrix

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/go-joe/joe"

	"github.com/go-joe/matrix-memory/internal/outlet"
	"github.com/go-joe/matrix-memory/internal/room"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// A Change is a change of one key in a room: what [Room.Watch], [Room.History] and a
// [ChangeEvent] tell.
type Change struct {
	Room    string          // the room's ID
	Key     string          // that was set or deleted
	Value   json.RawMessage // that it was set to; bytes that are no JSON as {"dev.joe.bytes": "base64"}, and JSON that looks like that as {"dev.joe.json": "text"}; nil if the key was deleted, or the value can't be read
	Deleted bool            // the key is not there any more
	Sender  string          // user ID of who changed it; "" if that is not known, as where somebody has redacted a value
	EventID string          // of the state event that says so, or that was redacted; "" if that is not known
	Time    time.Time       // when that was sent, by the clock of the sender's homeserver; of what nobody has said that yet, when it was heard
}

// A ChangeEvent is emitted on the bot's Brain when somebody else has changed a key in a room
// whose memory is in use: a second bot, opsdroid, a person with a Matrix client, the operator
// with the same account. What this memory sets and deletes is no event.
//
//	bot.Brain.RegisterHandler(func(evt matrix.ChangeEvent) { … })
//
// Get gives the new value when the handler runs. A key that changes several times before a
// handler has had its turn is told of once. What a room holds when the memory first loads it is
// no change; what was changed while a bot with Config.Journal was down is one, and so may be what the bot itself had set just before
// it was killed. A redaction by whoever is a change, too. Encrypted values are decrypted for the event; one that can't be read, as
// its key is missing, is nil, and Get says why.
type ChangeEvent struct{ Change }

// Watch tells what changes under keys that begin with a prefix, by whoever, from the call on. So what
// is read after the call misses nothing:
//
//	changes := room.Watch(ctx, "deploy.")
//	keys, err := room.Keys()
//	for change, err := range changes { … }
//
// It ends when a context does, that of the call or the handle's; after an error that comes without a
// change, as [ErrClosed], or [ErrUnknownRoom] when the bot is removed from the room; and when the
// loop does. An error with a change says why its value can't be read, and the next change comes. The iterator
// may be used once. Until a context ends, changes wait for it, of each key the last: who is slower than
// they come misses those between.
//
// With Config.Journal, what this memory sets is told once it is delivered. When a room is upgraded, Watch goes along
// with the memory.
func (r *Room) Watch(ctx context.Context, prefix string) iter.Seq2[Change, error] {
	b := r.budget()
	defer b.End()
	found, err := r.use(&b, "watch", prefix)
	if err != nil {
		return func(yield func(Change, error) bool) {
			if ctx.Err() == nil && r.ctx.Err() == nil {
				yield(Change{}, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	watcher, stop := found.Watch(prefix)
	end := context.AfterFunc(r.ctx, cancel)
	context.AfterFunc(ctx, func() { stop(); end() })
	return func(yield func(Change, error) bool) {
		defer cancel()
		for ctx.Err() == nil {
			c, err := watcher.Next(ctx)
			if ctx.Err() != nil || !yield(public(c), r.fail("watch", found.ID().String(), c.Key, err)) || c.Room == "" {
				return
			}
		}
	}
}

// public returns a change as users see it.
func public(c room.Change) Change {
	return Change{Room: c.Room.String(), Key: c.Key, Value: asJSON(c.Value), Deleted: c.Deleted, Sender: c.Sender.String(), EventID: c.EventID.String(), Time: c.Time}
}

// asJSON returns a value as JSON, as it stands in a room where it is none or looks like that; nil stays nil.
func asJSON(value []byte) json.RawMessage {
	if value == nil {
		return nil
	}
	return wire.Shown(value)
}

// startTelling tells the bot what others change, until the bot or the memory ends.
func (m *Memory) startTelling(conf *joe.Config) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return
	}
	m.outlet.Open(conf.EventEmitter())
	conf.Context = m.outlet.ShutFirst(conf.Context, func() {})
	ctx, cancel := context.WithCancel(context.Background())
	m.hush = cancel
	m.telling.Go(func() {
		for {
			c, err := m.others.Next(ctx)
			if c.Room == "" || m.closed.Load() {
				return
			}
			if err != nil {
				m.log.WithField("room", c.Room.String()).WithField("key", c.Key).WithError(err).Warn("Somebody has set a value that can't be read")
			}
			m.outlet.EmitAll(ctx, outlet.Emission{Data: ChangeEvent{public(c)}})
		}
	})
}

// stopTelling waits until nothing is told any more.
func (m *Memory) stopTelling() {
	m.mu.Lock()
	hush := m.hush
	m.mu.Unlock()
	if hush != nil {
		hush()
	}
	m.telling.Wait()
}
