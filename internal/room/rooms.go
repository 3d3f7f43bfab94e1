// Package room is what a memory does in Matrix rooms: it loads a room's state,
// follows it, answers reads from it, writes, and encrypts and decrypts values. With a
// journal, changes are acknowledged once they are on disk, and delivered behind.
//
// [Rooms] are the rooms of one memory, on one connection; a [Room] is one of them,
// with its replica and the queue of its writes.
package room

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/journal"
	"github.com/go-joe/matrix-memory/internal/session"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// An Env is what rooms need of their memory.
type Env struct {
	Session   *session.Session
	EventType event.Type // of the memory's state events
	OlderType string     // of those to copy where there are none of EventType; "": there is no such type
	Layout    wire.Layout
	Encrypt   bool                  // in encrypted rooms, values go out encrypted
	Cipher    Cipher                // nil: encryption is not enabled
	Timeout   time.Duration         // bounds one operation, and what nobody waits for
	Journal   *journal.Journal      // nil: there is none, and changes are acknowledged once they are in the room
	Through   func(key string) bool // says of which keys changes don't wait in the journal
	Log       logrus.FieldLogger
}

// A Cipher encrypts and decrypts events. Its methods are called concurrently.
type Cipher interface {
	// Encrypt returns the content of an m.room.encrypted event that only members
	// of the room can read.
	Encrypt(ctx context.Context, room id.RoomID, eventType event.Type, content json.RawMessage) (json.RawMessage, error)
	// Decrypt returns what an m.room.encrypted event holds, if it was encrypted
	// with a key that belongs to its sender. If the key is missing, it sees to it
	// that the key is asked for, and a later call may succeed.
	Decrypt(ctx context.Context, evt *event.Event) (eventType string, content json.RawMessage, err error)
	// Encrypted is told whether a room's state says that the room is encrypted, and
	// returns whether it has ever said so, also in an earlier process. An error says that
	// this could not be kept; then nothing must go out in the clear.
	Encrypted(room id.RoomID, now bool) (bool, error)
}

// Types returns the types of the state events that rooms have to hear of.
func (e Env) Types() []event.Type {
	types := []event.Type{e.EventType, event.StatePowerLevels, event.StateEncryption, event.StateCreate, event.StateTombstone}
	if e.OlderType != "" {
		types = append(types, event.Type{Type: e.OlderType, Class: event.StateEventType})
	}
	return types
}

// Rooms are the rooms of one memory. The methods may be called concurrently.
type Rooms struct {
	Env
	fetching *semaphore.Weighted // bounds how many encrypted events are fetched at the same time

	flusher  *flusher            // nil: there is no journal
	raised   time.Time           // when the journal's generation was; the flusher's
	others   *Watcher            // of what others change; nil: nobody wants to know
	claiming *semaphore.Weighted // held while the account's data of the journal is changed

	background  sync.WaitGroup // redactions, reads of encrypted events, and reads after a gap of sync
	redacting   context.Context
	giveUp      context.CancelFunc // ends redactions that take too long
	reading     context.Context    // of what ends with the rooms
	stopReading context.CancelFunc

	going sync.Mutex // held while a memory goes to another room: one after the other, so that none goes where that has left

	mu     sync.RWMutex // owns what follows
	closed bool
	byID   map[id.RoomID]*Room

	invited     map[id.RoomID]bool // ever
	invitations []id.RoomID        // not looked at yet, of which answering is to be done
	answering   bool               // by a goroutine
}

// New returns the rooms of a memory. None is loaded before it is used.
func New(env Env) *Rooms {
	rs := &Rooms{Env: env, fetching: semaphore.NewWeighted(maxFetches), claiming: semaphore.NewWeighted(1), byID: make(map[id.RoomID]*Room), invited: make(map[id.RoomID]bool)}
	rs.redacting, rs.giveUp = context.WithCancel(context.Background())
	rs.reading, rs.stopReading = context.WithCancel(context.Background())
	if rs.Journal != nil {
		rs.flusher = newFlusher(rs)
	}
	return rs
}

// StartDelivering delivers what the journal holds, and whatever comes to it, until Close.
func (rs *Rooms) StartDelivering() {
	for _, room := range rs.Journal.Refused() {
		rs.Journal.Retry(room, journal.All) // that may have changed
	}
	rs.inBackground(func() { rs.flusher.run(rs.reading) })
}

// Flush waits until all that the journal holds is delivered, but for what is refused.
func (rs *Rooms) Flush(ctx context.Context) error { return rs.flusher.flush(ctx) }

// Find returns the room that is called by a name, an alias or an ID, ready for use; off line, one
// that the journal knows is returned as it is.
func (rs *Rooms) Find(ctx context.Context, name string) (*Room, error) {
	roomID, err := rs.Session.ResolveNow(ctx, name)
	if err != nil {
		return nil, explain(err)
	}
	if rs.isAway() && rs.isKnown(roomID) {
		return rs.register(roomID)
	}
	r, err := rs.use(ctx, roomID)
	if !unusable(err) || !rs.Session.ForgetAlias(name) {
		return r, err
	}
	moved, resolveErr := rs.Session.Resolve(ctx, name)
	if resolveErr != nil || moved == roomID {
		return nil, err
	}
	return rs.use(ctx, moved)
}

// use returns the room with an ID, or the one that replaces it, ready for use.
func (rs *Rooms) use(ctx context.Context, roomID id.RoomID) (*Room, error) {
	r, err := rs.register(roomID)
	for err == nil {
		r = r.latest()
		if err = r.ready(ctx); err == nil {
			err = r.arriveInTime(ctx)
		}
		switch {
		case r.heir.Load() != nil: // whatever it said
			err = nil
		case err == nil, errors.Is(err, ErrUpgraded): // it answers all the same
			return r, nil
		}
	}
	return nil, explain(err)
}

// register returns the room with this ID, and makes it if need be.
func (rs *Rooms) register(roomID id.RoomID) (*Room, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.closed {
		return nil, ErrClosed
	}
	return rs.room(roomID), nil
}

// room is register for who holds mu.
func (rs *Rooms) room(roomID id.RoomID) *Room {
	r, ok := rs.byID[roomID]
	if !ok {
		r = newRoom(rs, roomID)
		rs.byID[roomID] = r
		r.restore()
	}
	return r
}

// Update takes over what sync brought of a room. Rooms that nobody has asked for
// yet are passed over: they are read when they are first used.
func (rs *Rooms) Update(u session.Update) {
	rs.mu.RLock()
	r := rs.byID[u.Room]
	rs.mu.RUnlock()
	switch {
	case r == nil, r.heir.Load() != nil: // nobody asks it any more
	case u.Left:
		r.leave(u.Why)
	default:
		r.apply(u)
	}
}

// Anew notes that sync may have missed something in any room, so that what is loaded has to
// be loaded again.
func (rs *Rooms) Anew() {
	for _, r := range rs.all() {
		r.replica.Missed()
		r.queue.Wake()
	}
}

// all returns the rooms that were asked for.
func (rs *Rooms) all() []*Room {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	return slices.Collect(maps.Values(rs.byID))
}

// inBackground runs what Close waits for, and says whether it does: not once the
// rooms are closed.
func (rs *Rooms) inBackground(work func()) bool {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	if !rs.closed {
		rs.background.Go(func() {
			defer session.Survive(rs.Log, "work in the background")
			work()
		})
	}
	return !rs.closed
}

// Close refuses new operations, lets the writes that were accepted finish until the
// context is done, and waits for what runs in the background.
func (rs *Rooms) Close(ctx context.Context) {
	rs.mu.Lock()
	rs.closed = true
	rooms := slices.Collect(maps.Values(rs.byID))
	rs.mu.Unlock()
	var all sync.WaitGroup
	for _, r := range rooms {
		all.Go(func() { r.queue.Close(ctx) })
	}
	all.Wait()
	stop := context.AfterFunc(ctx, rs.giveUp)
	defer stop()
	rs.stopReading()
	rs.background.Wait()
	for _, r := range rooms {
		r.save() // what was read since sync brought something
		r.endWatchers(ErrClosed)
	}
	if rs.others != nil {
		rs.others.end(ErrClosed)
	}
}

// isClosed says whether new operations are refused.
func (rs *Rooms) isClosed() bool {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	return rs.closed
}

// userID returns the bot's user ID.
func (rs *Rooms) userID() id.UserID { return rs.Session.Client().UserID }
