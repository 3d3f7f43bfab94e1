package room

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/session"
)

// A flusher delivers what the journal holds, room by room, the one whose change waits the
// longest first. It is one goroutine for all rooms; what it sends goes at the session's pace.
type flusher struct {
	rooms *Rooms
	work  chan struct{} // has room for one call to work

	mu      sync.Mutex // owns what follows
	later   map[string]*later
	told    bool                   // that the journal failed
	waiting map[chan struct{}]bool // who waits for something to be delivered
	flushes int                    // how many calls of flush wait for all
	hurry   context.CancelFunc     // tells the delivery that is under way, or the pause, that somebody waits for it
	held    error                  // why nothing is delivered anywhere: see claim
}

// later is when a room is delivered to again.
type later struct {
	until time.Time
	pause *backoff.ExponentialBackOff
	err   error // of the last delivery, which is tried again then; nil: it went well
}

// between is how long a room is left alone after a delivery, where nobody waits for the next one.
// What is set meanwhile goes in one event, and is kept with one write to the disk.
const between = 250 * time.Millisecond

func newFlusher(rs *Rooms) *flusher {
	return &flusher{rooms: rs, work: make(chan struct{}, 1), later: make(map[string]*later), waiting: make(map[chan struct{}]bool), hurry: func() {}}
}

// wake says that there may be something to deliver.
func (f *flusher) wake() {
	select {
	case f.work <- struct{}{}:
	default:
	}
}

// changed says that there is something to deliver to a room. One that is left alone for now does
// not wake the flusher: it looks after that by itself.
func (f *flusher) changed(room string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.later[room]; l == nil || !time.Now().Before(l.until) {
		f.wake()
	}
}

// failed says once that the journal failed, and has those know who wait.
func (f *flusher) failed() {
	defer f.tell()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.told {
		f.told = true
		f.rooms.Log.WithError(f.rooms.Journal.Failure()).Error("The journal writes no more; changes wait for the homeserver from now on. Look after the disk, and start the bot again: then what the journal holds is delivered")
	}
}

// run delivers until the context is done, or the journal has failed: then it can't be noted any
// more what is sent, or nothing that it holds may be.
func (f *flusher) run(ctx context.Context) {
	defer f.rooms.saveStale()
	saving := time.NewTicker(saveAfter)
	defer saving.Stop()
	for ctx.Err() == nil {
		if f.rooms.Session.Reach(ctx) != nil {
			return
		}
		may := f.rooms.claim(ctx)
		if f.rooms.Journal.Failure() != nil {
			f.failed()
			return
		}
		if !may {
			return
		}
		roomID, wait := f.next()
		if roomID != "" {
			f.deliver(ctx, roomID)
			select {
			case <-saving.C:
				f.rooms.saveStale()
			default:
			}
			continue
		}
		_ = f.rooms.Journal.Flush() // else the next change says so
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-f.work:
		case <-timer:
		case <-saving.C:
			f.rooms.saveStale()
		case <-ctx.Done():
		}
	}
}

// next returns the room to deliver to, or how long to wait for one.
func (f *flusher) next() (room string, wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, room := range f.rooms.Journal.Rooms() {
		l := f.later[room]
		if l == nil || !time.Now().Before(l.until) {
			return room, 0
		}
	}
	for room, l := range f.later {
		left := time.Until(l.until)
		if left <= 0 { // and there is nothing to deliver to it
			delete(f.later, room)
		} else if wait == 0 || left < wait {
			wait = left
		}
	}
	return "", wait
}

// deliver delivers what the journal holds of a room.
func (f *flusher) deliver(ctx context.Context, roomID string) {
	defer f.tell()
	again, err := f.deliverTo(ctx, roomID)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case errors.Is(err, session.ErrGaveWay), !again && f.flushes > 0: // somebody waits for it now
		delete(f.later, roomID)
		return
	case errors.Is(err, errReplaced): // what is to be delivered is moved
		f.later[roomID] = &later{until: time.Now().Add(between)}
		return
	case !again:
		f.later[roomID] = &later{until: time.Now().Add(between)}
		return
	}
	l := f.later[roomID]
	if l == nil || l.err == nil {
		l = &later{pause: backoff.NewExponentialBackOff()}
		l.pause.InitialInterval, l.pause.MaxInterval = time.Second, time.Minute
		f.later[roomID] = l
	}
	if l.err == nil && ctx.Err() == nil && !f.rooms.Session.IsUnreachable() { // else sync says so
		f.rooms.Log.WithField("room", roomID).WithError(err).Warn("Could not deliver what the journal holds; it is tried again")
	}
	l.until, l.err = time.Now().Add(l.pause.NextBackOff()), err
}

// deliverTo delivers to a room, and says whether that is to be tried again, and why.
func (f *flusher) deliverTo(ctx context.Context, roomID string) (again bool, err error) {
	again, err = true, errors.New("it ended in a fault of this program, which the log describes") // unless it ends otherwise
	defer session.Survive(f.rooms.Log, "delivering what the journal holds")
	ctx, cancel := context.WithTimeout(ctx, f.rooms.Timeout)
	defer cancel()
	r, unregistered := f.rooms.register(id.RoomID(roomID))
	if unregistered != nil {
		return true, unregistered
	}
	if err := r.delivering.Acquire(ctx, 1); err != nil {
		return true, err
	}
	defer r.delivering.Release(1)
	retried := r.retried()
	defer func() {
		if r.retried() > retried { // what was refused may work by now
			r.retry(true)
		}
	}()
	changes := r.undelivered()
	switch err := r.stays(); {
	case err != nil:
		return f.unready(r, changes, err)
	case r.isReplaced():
		return true, errReplaced
	}
	if err := r.ready(ctx); err != nil {
		return f.unready(r, changes, r.refused(err))
	}
	changes = f.withoutSecrets(r, changes)
	idle, end := f.idle(ctx)
	results := r.queue.Deliver(ctx, idle, changes...)
	end()
	again, err = false, nil
	done := make(map[string]uint64)
	for i, change := range changes {
		result := results[i]
		explained := r.refused(result)
		log := r.log().WithField("key", change.Key)
		won := (result == nil || errors.Is(result, commit.ErrSuperseded)) && r.won(change)
		switch {
		case result == nil:
			done[change.Key] = change.Seq
			if won {
				log.Warn("A change that was not delivered yet took the place of somebody else's, of which the bot had not heard when it was made")
			}
		case errors.Is(result, commit.ErrSuperseded):
			log.Warn(givenUp)
			done[change.Key] = change.Seq
		case errors.Is(result, commit.ErrRefused), unusable(explained), errors.Is(explained, ErrNoEncryption):
			if r.tells(change, explained) {
				log.WithError(explained).Warn(deadLetter)
			}
			f.rooms.Journal.Refuse(roomID, change.Key, change.Seq, explained.Error())
		default:
			again, err = true, explained
		}
	}
	r.done(done)
	return again && len(done) == 0, err // what is left goes on at once
}

const givenUp = "A change that was not delivered yet is given up: somebody else changed the key, and did not know of it"

const deadLetter = "What was acknowledged can't be delivered; it stays in the journal, and is tried again when that may help, and at each start"

// withoutSecrets refuses what would stand in the clear though it was set in an encrypted room, which this one replaces,
// and returns the other changes.
func (f *flusher) withoutSecrets(r *Room, changes []commit.Change) []commit.Change {
	secret := r.secret.Load()
	if encrypted, err := r.encrypted(); secret == 0 || encrypted || err != nil {
		return changes
	}
	return slices.DeleteFunc(changes, func(change commit.Change) bool {
		if change.Delete || change.Seq > secret {
			return false
		}
		err := fmt.Errorf("%w in this room: the value was set in an encrypted one, which this room replaces; set it again if it may stand here in the clear", ErrNoEncryption)
		if r.tells(change, err) {
			r.log().WithField("key", change.Key).WithError(err).Warn(deadLetter)
		}
		f.rooms.Journal.Refuse(r.id.String(), change.Key, change.Seq, err.Error())
		return true
	})
}

// unready says whether what can't be delivered as the room is not ready is to be tried again.
func (f *flusher) unready(r *Room, changes []commit.Change, err error) (again bool, _ error) {
	if !unusable(err) && !errors.Is(err, ErrUpgraded) {
		return true, err
	}
	var keys []string
	for _, change := range changes {
		if r.tells(change, err) {
			keys = append(keys, change.Key)
		}
		f.rooms.Journal.Refuse(r.id.String(), change.Key, change.Seq, err.Error())
	}
	if len(keys) > 0 {
		r.log().WithField("keys", keys).WithError(err).Warn(deadLetter)
	}
	r.done(nil)
	return false, nil
}

// idle returns what ends when somebody waits for a delivery, which is nil where somebody does
// already, and what to call after the delivery.
func (f *flusher) idle(ctx context.Context) (idle context.Context, end context.CancelFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flushes > 0 {
		return nil, func() {}
	}
	idle, f.hurry = context.WithCancel(ctx)
	return idle, f.hurry
}

// rest waits for a pause; for a second at most where somebody waits for what follows.
func (f *flusher) rest(ctx context.Context, pause time.Duration) {
	idle, end := f.idle(ctx)
	defer end()
	if idle == nil {
		idle, pause = ctx, min(pause, time.Second)
	}
	select {
	case <-time.After(pause):
	case <-idle.Done():
	}
}

// unclaimed notes why nothing is delivered anywhere; nil: it is.
func (f *flusher) unclaimed(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = err
}

// tell tells those who wait that something was delivered.
func (f *flusher) tell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for waiting := range f.waiting {
		close(waiting)
		delete(f.waiting, waiting)
	}
}

// flush waits until nothing is left of what was acknowledged before, or the context is done.
func (f *flusher) flush(ctx context.Context) error {
	last := f.rooms.Journal.Last()
	f.mu.Lock()
	f.flushes++
	f.hurry()
	for _, l := range f.later { // somebody waits
		l.until = time.Now()
	}
	f.mu.Unlock()
	told := make(chan struct{})
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.flushes--
		delete(f.waiting, told)
	}()
	for {
		f.mu.Lock()
		f.waiting[told] = true
		f.mu.Unlock()
		if err := f.rooms.Journal.Failure(); err != nil {
			return err
		}
		left := f.rooms.Journal.Undelivered(last)
		if left == 0 {
			return f.rooms.Journal.Flush()
		}
		f.wake()
		select {
		case <-told:
			told = make(chan struct{})
		case <-ctx.Done():
			return fmt.Errorf("%d changes are not delivered: %w", left, errors.Join(append(f.faults(), f.rooms.Session.Reach(ctx), ctx.Err())...))
		case <-f.rooms.Session.Life().Done():
			return session.ErrClosed
		}
	}
}

// faults says what keeps all from being delivered, and of each room what its last delivery failed of.
func (f *flusher) faults() (all []error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held != nil {
		all = append(all, fmt.Errorf("asking whether the journal is the latest: %w", f.held))
	}
	for room, l := range f.later {
		if l.err != nil {
			all = append(all, fmt.Errorf("room %s: %w", room, l.err))
		}
	}
	return all
}
