package room

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"
	"maunium.net/go/mautrix"
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
	rooms    *Rooms
	id       id.RoomID
	replica  *replica.Room
	queue    *commit.Queue
	loading  *semaphore.Weighted // held while the state is read
	putting  *semaphore.Weighted // held while a state event is put
	used     sync.Once           // what a room needs at its first use
	unsealed sync.Once           // it was said that nothing can be sealed

	accepting  sync.Mutex          // held while a change is taken over into the journal; it owns outlook
	outlook    *commit.Outlook     // with what the journal holds of the room; nil: not known
	inherited  map[string]bool     // keys of which the journal had a change at the start; never changed after that
	saving     sync.Mutex          // held while what is known goes to the journal, so that the latest is what stays
	delivering *semaphore.Weighted // held while the journal's changes are delivered
	stale      atomic.Bool         // more is known of the room than the journal keeps
	vault      vault

	heir       atomic.Pointer[Room]   // where the memory has gone; nil: nowhere
	moving     sync.RWMutex           // held while it goes, so that who reads what the journal holds here sees all of it, or goes there
	inheriting *semaphore.Weighted    // held while what the room held that this one replaces is taken along
	owes       atomic.Bool            // that is to be done before anything is read
	from       atomic.Pointer[origin] // the room that this one replaces, once that is done; nil: there is none
	secret     atomic.Uint64          // changes of the journal up to this Seq were acknowledged in an encrypted room
	unmarked   atomic.Bool            // what was taken along may not stand in the room yet

	watching sync.Mutex // held while watchers are told something; owns what follows
	watchers map[*Watcher]bool
	awaited  map[string]bool // keys of which an earlier process may have sent a change that was not heard of so far

	misses atomic.Int32 // encrypted events that Get first asked for since the last read-ahead

	mu        sync.RWMutex // owns what follows
	access    access
	outdated  map[string]bool      // keys of which no start delivers what the file of the failed journal may hold
	told      map[string]told      // what was said of refused changes, by key
	retries   int                  // how often all that is refused was to be tried again
	sent      map[string]encounter // what own changes that are not delivered met when they went out, by key
	out       bool                 // the bot is no longer in the room, as was said
	why       string               // it was removed, in the words of who did that
	restored  bool                 // it was said that the homeserver was restored from a backup, and the room was not read again since
	lacking   string               // what the bot lacks to put back what a reset took, as was said
	unpointed []unpointed          // to be redacted, by one goroutine
	unsorted  int                  // how many events may be kept in the journal before some are sorted out
	replaced  *replacement         // by another room; nil: as far as is known, none
	resealed  map[string]resealed  // what was taken along, and sealed anew for this room, by key
}

func newRoom(rs *Rooms, roomID id.RoomID) *Room {
	r := &Room{rooms: rs, id: roomID, replica: replica.New(rs.Layout, rs.userID().String()), loading: semaphore.NewWeighted(1), putting: semaphore.NewWeighted(1),
		delivering: semaphore.NewWeighted(1), inheriting: semaphore.NewWeighted(1), resealed: make(map[string]resealed), outdated: make(map[string]bool), told: make(map[string]told), sent: make(map[string]encounter), watchers: make(map[*Watcher]bool), awaited: make(map[string]bool)}
	r.replica.Tell(r.changed)
	env := commit.Env{
		Put:       r.put,
		Standing:  r.standing,
		Load:      func(ctx context.Context) error { return r.load(ctx, nil) },
		Limit:     r.limit,
		Encrypted: r.encrypted,
		Seal:      r.seal,
		SealLimit: r.sealLimit(),
		Opened:    r.vault.peek,
		Removed:   r.removed,
		Settled:   r.mark,
		Failed:    r.failed,
	}
	if rs.Journal != nil {
		env.Attempted = r.attempted
	}
	r.queue = commit.NewQueue(r.replica, env, rs.Timeout)
	return r
}

// ID returns the room's ID, or that of the room that replaces it and to which the memory has gone.
func (r *Room) ID() id.RoomID { return r.latest().id }

// Loaded says whether the room's state is known.
func (r *Room) Loaded() bool { return r.latest().loaded() }

func (r *Room) loaded() bool { return r.replica.Loaded() && !r.owes.Load() }

func (r *Room) log() logrus.FieldLogger { return r.rooms.Log.WithField("room", r.id.String()) }

// ready makes the room ready for use.
func (r *Room) ready(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if !r.isReplaced() {
		r.used.Do(func() {
			r.queue.Wake() // a memory under the older event type is copied now
			r.warn()
		})
	}
	return nil
}

// prepare loads the room's state unless it is loaded, and takes along what the room held that this one
// replaces.
func (r *Room) prepare(ctx context.Context) error {
	if !r.replica.Loaded() {
		if err := r.rooms.Session.Answers(ctx); err != nil {
			return err
		}
		if err := r.load(ctx, r.replica.Loaded); err != nil {
			return err
		}
		r.save()
	}
	if r.owes.Load() {
		return r.inheritFirst(ctx)
	}
	return nil
}

// apply takes over what is new in the room.
func (r *Room) apply(u session.Update) {
	todo := r.replica.Apply(replica.Update{Gap: u.Gap, State: r.take(u.State), Timeline: r.take(u.Timeline), After: r.take(u.After)})
	for _, eventID := range u.Redacted {
		r.forget(eventID.String())
		if r.replica.Redacted(eventID.String()) {
			r.log().WithField("event", eventID.String()).
				Warn("Somebody redacted a state event that holds memory; what it alone said is gone")
			todo = true
		}
	}
	if todo {
		r.queue.Wake()
	}
	if r.rooms.Journal == nil {
		return
	}
	if news := slices.Concat(u.State, u.Timeline, u.After); len(news)+len(u.Redacted) > 0 {
		r.stale.Store(true)
		r.retry(u.Gap || slices.ContainsFunc(news, func(evt *event.Event) bool { return evt.Type.Type != r.rooms.EventType.Type }))
	}
}

// take returns those of a room's state events that are the memory's, and notes what the
// others say of access.
func (r *Room) take(events []*event.Event) (ours []replica.Event) {
	for _, evt := range events {
		if evt.Type.Type == r.rooms.EventType.Type {
			ours = append(ours, r.stateEvent(evt))
		} else {
			r.note(evt)
		}
	}
	return ours
}

// Get returns the value under a key.
func (r *Room) Get(b *Budget, key string) ([]byte, bool, error) {
	for {
		r = r.latest()
		value, ok, err := r.get(b, key)
		if r.heir.Load() == nil {
			return value, ok, explain(err)
		}
	}
}

func (r *Room) get(b *Budget, key string) ([]byte, bool, error) {
	if change, ok := r.pending(key); ok {
		return bytes.Clone(change.Value), !change.Delete, nil
	}
	if !r.loaded() {
		if err := r.ready(b.Context()); err != nil {
			return nil, false, err
		}
	}
	if r.rooms.Journal != nil && r.rooms.Through(key) && r.replica.Behind(r.replica.StateKey(key)) {
		if !r.rooms.Session.IsConnected() {
			return nil, false, errors.New("who may do what is not known before the bot is connected: it may have been changed meanwhile")
		}
		if err := r.load(b.Context(), nil); err != nil {
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
	for {
		r = r.latest()
		keys, err := r.keys(b)
		if r.heir.Load() == nil {
			return keys, explain(err)
		}
	}
}

func (r *Room) keys(b *Budget) ([]string, error) {
	if !r.loaded() {
		if err := r.ready(b.Context()); err != nil {
			return nil, err
		}
	}
	over := r.overlay() // first, as a delivery takes a change out of it once the replica has it
	keys, err := r.replica.Keys()
	if err != nil {
		return nil, err
	}
	return overlaid(keys, over), nil
}

// Set stores a value under a key.
func (r *Room) Set(b *Budget, key string, value []byte) error {
	_, err := r.change(b, commit.Change{Key: key, Value: bytes.Clone(value)})
	return err
}

// Delete removes keys and returns how many of them were there. A [KeyError] says
// which one failed.
func (r *Room) Delete(b *Budget, keys ...string) (int, error) {
	changes := make([]commit.Change, len(keys))
	for i, key := range keys {
		changes[i] = commit.Change{Key: key, Delete: true}
	}
	return r.change(b, changes...)
}

// submit commits changes.
func (r *Room) submit(b *Budget, changes ...commit.Change) (int, error) {
	if len(changes) == 0 {
		return 0, nil
	}
	err := r.rooms.Session.Answers(b.Context()) // a room that the journal knows is ready without
	if err == nil {
		err = r.ready(b.Context())
	}
	if err != nil {
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

// put stores a state event: commit.Env's Put.
func (r *Room) put(ctx, idle context.Context, stateKey string, content json.RawMessage, may func() error) (string, commit.Outcome, error) {
	r.warnOfReset(ctx)
	if err := r.putting.Acquire(ctx, 1); err != nil {
		return "", commit.Refused, err
	}
	defer r.putting.Release(1)
	var outdated error
	eventID, acted, err := r.rooms.Session.PutState(ctx, idle, r.id, r.rooms.EventType, stateKey, content, func() error {
		if r.isReplaced() {
			return errReplaced
		}
		outdated = may()
		return outdated
	})
	err = r.expelled(ctx, err)
	switch {
	case err == nil && acted:
		return eventID.String(), commit.Repeated, nil
	case err == nil:
		return eventID.String(), commit.Stored, nil
	case acted:
		return "", commit.Unknown, err
	case errors.Is(err, ErrUnknownRoom):
		return "", commit.Refused, err
	case outdated != nil, errors.Is(err, session.ErrGaveWay), idle != nil && session.IsStatus(err, http.StatusTooManyRequests):
		return "", commit.Outdated, err
	case invalid(err), r.rooms.Journal != nil && r.forbidsSome(ctx, stateKey, err):
		return "", commit.Invalid, err
	default:
		return "", commit.Refused, err
	}
}

// forbidsSome says of an error whether it may be about some of the changes alone: homeservers may have rules of
// their own on what an event may hold. Where the power level tells why, or the bot may not even read, it is
// about all of them.
func (r *Room) forbidsSome(ctx context.Context, stateKey string, err error) bool {
	if !session.IsStatus(err, http.StatusForbidden) || !errors.Is(err, mautrix.MForbidden) || r.lack() != "" {
		return false
	}
	_, _, err = r.standing(ctx, stateKey)
	return !session.IsStatus(err, http.StatusForbidden)
}

// standing returns what stands in the room: commit.Env's Standing.
func (r *Room) standing(ctx context.Context, stateKey string) (json.RawMessage, bool, error) {
	content, found, err := r.rooms.Session.Standing(ctx, r.id, r.rooms.EventType, stateKey)
	if err == nil && !found && r.replica.Stands(stateKey) { // of a room that was purged homeservers say the same
		err = r.belongs(ctx)
	}
	return content, found, r.expelled(ctx, err)
}

func (r *Room) limit(stateKey string) int {
	return wire.EventLimit(r.id.String(), r.rooms.userID().String(), r.rooms.EventType.Type, stateKey)
}
