package room

import (
	"context"
	"errors"
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
}

// later is when a room is tried again.
type later struct {
	until time.Time
	pause *backoff.ExponentialBackOff
}

func newFlusher(rs *Rooms) *flusher {
	return &flusher{rooms: rs, work: make(chan struct{}, 1), later: make(map[string]*later), waiting: make(map[chan struct{}]bool)}
}

// wake says that there may be something to deliver.
func (f *flusher) wake() {
	select {
	case f.work <- struct{}{}:
	default:
	}
}

// failed says once that the journal failed.
func (f *flusher) failed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.told {
		f.told = true
		f.rooms.Log.WithError(f.rooms.Journal.Failure()).Error("The journal writes no more; changes wait for the homeserver from now on. Look after the disk, and start the bot again: then what the journal holds is delivered")
	}
}

// run delivers until the context is done.
func (f *flusher) run(ctx context.Context) {
	for ctx.Err() == nil {
		if f.rooms.Session.Reach(ctx) != nil || !f.rooms.mayDeliver(ctx) {
			return
		}
		roomID, wait := f.next()
		if roomID != "" {
			f.deliver(ctx, roomID)
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
		if l == nil {
			return room, 0
		}
		left := time.Until(l.until)
		if left <= 0 {
			return room, 0
		}
		if wait == 0 || left < wait {
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
	if !again {
		delete(f.later, roomID)
		return
	}
	l := f.later[roomID]
	if l == nil {
		l = &later{pause: backoff.NewExponentialBackOff()}
		l.pause.InitialInterval, l.pause.MaxInterval = time.Second, time.Minute
		f.later[roomID] = l
	}
	l.until = time.Now().Add(l.pause.NextBackOff())
	if ctx.Err() == nil {
		f.rooms.Log.WithField("room", roomID).WithError(err).Debug("Could not deliver what the journal holds; it is tried again")
	}
}

// deliverTo delivers to a room, and says whether that is to be tried again, and why.
func (f *flusher) deliverTo(ctx context.Context, roomID string) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.rooms.Timeout)
	defer cancel()
	r, err := f.rooms.register(id.RoomID(roomID))
	if err != nil {
		return true, err
	}
	if err := r.delivering.Acquire(ctx, 1); err != nil {
		return true, err
	}
	defer r.delivering.Release(1)
	changes := r.undelivered()
	err = r.ready(ctx)
	results := make([]error, len(changes))
	if err == nil {
		results = r.queue.Deliver(ctx, changes...)
	} else {
		for i := range results {
			results[i] = err
		}
	}
	done := make(map[string]uint64)
	for i, change := range changes {
		result := results[i]
		explained := r.refused(result)
		log := r.log().WithField("key", change.Key)
		switch {
		case result == nil:
			done[change.Key] = change.Seq
		case errors.Is(result, commit.ErrSuperseded):
			log.Warn("A change that was not delivered yet is given up: somebody else changed the key, and did not know of it")
			done[change.Key] = change.Seq
		case errors.Is(result, commit.ErrRefused), unusable(explained), errors.Is(explained, ErrNoEncryption):
			log.WithError(explained).Warn("A change that was acknowledged can't be delivered; it stays in the journal, and is tried again when that may help, and at each start")
			f.rooms.Journal.Refuse(roomID, change.Key, change.Seq, explained.Error())
		default:
			again, err = true, explained
		}
	}
	r.done(done)
	return again, err
}

// retry has what was refused of a room delivered, as that may work by now.
func (f *flusher) retry(roomID string) {
	if _, refused, _ := f.rooms.Journal.Pending(); refused == 0 || f.rooms.copied.Load() {
		return
	}
	f.rooms.Journal.Retry(roomID)
	f.wake()
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

// flush waits until nothing is left to deliver, or the context is done.
func (f *flusher) flush(ctx context.Context) error {
	for {
		told := make(chan struct{})
		f.mu.Lock()
		f.waiting[told] = true
		for _, l := range f.later { // somebody waits
			l.until = time.Now()
		}
		f.mu.Unlock()
		if err := f.rooms.Journal.Failure(); err != nil {
			return err
		}
		if len(f.rooms.Journal.Rooms()) == 0 {
			return f.rooms.Journal.Flush()
		}
		f.wake()
		select {
		case <-told:
		case <-ctx.Done():
			return ctx.Err()
		case <-f.rooms.Session.Life().Done():
			return session.ErrClosed
		}
	}
}
