// Package commit turns a room's writes into as few requests as possible.
//
// A [Queue] has one worker, which runs while there is work. Writes that arrive
// while a request is under way wait and are then committed together: one
// request for each state event that they touch, however many writers there
// are. Each writer gets its own result, and a value that the homeserver refuses
// fails only its own writer. This is group commit, as in bbolt's DB.Batch, but
// without its delay: the request under way is the delay.
package commit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/go-joe/matrix-memory/internal/replica"
)

var (
	// ErrClosed says that the queue takes no more writes.
	ErrClosed = errors.New("the memory is closed")
	// ErrUnknownOutcome says that the homeserver may or may not have stored a write.
	ErrUnknownOutcome = errors.New("the outcome is unknown: the homeserver may have stored the write all the same")
	// ErrNotSent says that a write's time was over before it was sent.
	ErrNotSent = errors.New("not sent")
)

// An Outcome is what became of a request that stores a state event.
type Outcome int

const (
	Stored   Outcome = iota // the homeserver answered with an event ID
	Refused                 // certainly not stored
	Invalid                 // certainly not stored, on account of its content or size
	Unknown                 // perhaps stored
	Outdated                // certainly not stored, as the room has become encrypted meanwhile
)

// An Env is what a queue needs of the outside world. Its functions are called
// by the queue's worker, one at a time.
type Env struct {
	// Put stores a state event and returns its ID. It retries as it sees fit
	// until the context is done. encrypted is what Encrypted said when the content was
	// made: where it would say something else by now, nothing may be sent.
	Put func(ctx context.Context, stateKey string, content json.RawMessage, encrypted bool) (eventID string, outcome Outcome, err error)
	// Read reads a state event; found is false if there is none.
	Read func(ctx context.Context, stateKey string) (event replica.Event, found bool, err error)
	// Limit returns how many bytes of content fit in the event under a state key.
	Limit func(stateKey string) int

	// Encrypted says whether values go out encrypted, or why they can't go out at all.
	Encrypted func() (bool, error)
	// Seal sends a timeline event with this content, encrypted, and returns its ID.
	Seal func(ctx context.Context, content json.RawMessage) (eventID string, err error)
	// SealLimit is how many bytes of content fit in an encrypted event.
	SealLimit int
	// Opened returns what an encrypted event is known to hold under a key: a value, or
	// something that this version can't read.
	Opened func(eventID, key string) (value []byte, known bool, err error)
	// Removed is told of encrypted events that no entry points at: their keys were
	// deleted, or the state that was to point at them was not stored.
	Removed func(eventIDs []string)

	// Failed is told of work that no caller waits for and that could not be done. It
	// is tried again later, and told of once.
	Failed func(stateKey string, err error)
}

// A Change sets or deletes one key.
type Change struct {
	Key    string
	Value  []byte
	Delete bool
}

// A Queue commits the writes of one room. It is safe for concurrent use.
type Queue struct {
	room    *replica.Room
	env     Env
	timeout time.Duration

	ctx    context.Context // of the worker's requests; done once Close gives up waiting
	cancel context.CancelFunc
	idle   sync.WaitGroup // counts the worker

	mu      sync.Mutex // owns all below
	pending []*write
	wake    bool
	running bool
	closed  bool
	failing bool                        // the last chores failed
	pause   *backoff.ExponentialBackOff // between chores that fail
	later   *time.Timer                 // wakes the worker after the pause; nil: no chore has failed
}

// A write is the changes of one caller, who waits for done. The queue's mu owns
// what changes of it.
type write struct {
	ctx     context.Context
	changes []Change
	parts   []*part // nil until the worker takes it up
	left    int     // parts that are not finished
	done    chan struct{}
}

// A part is the changes of one write that concern one state event. The queue's mu
// owns begun and all below it.
type part struct {
	*write
	changes  []Change
	existed  int  // how many of the keys to delete were there
	begun    bool // the worker has begun to send it
	finished bool
	err      error
}

// A KeyError says which of several changes failed.
type KeyError struct {
	Key string
	Err error
}

func (e *KeyError) Error() string { return e.Err.Error() }
func (e *KeyError) Unwrap() error { return e.Err }

// NewQueue returns the queue of a room. The timeout bounds one write, with all
// that it waits for.
func NewQueue(room *replica.Room, env Env, timeout time.Duration) *Queue {
	ctx, cancel := context.WithCancel(context.Background())
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = time.Second, 5*time.Minute
	return &Queue{room: room, env: env, timeout: timeout, ctx: ctx, cancel: cancel, pause: pause}
}

// Submit commits changes and waits for the result, until the context is done and at
// most for the queue's timeout: how many of the deleted keys were there, and a
// [KeyError] if any of the changes failed. What was begun by then goes on. The
// changes to one state event are stored all or none.
func (q *Queue) Submit(ctx context.Context, changes ...Change) (existed int, err error) {
	if len(changes) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	stop := context.AfterFunc(q.ctx, cancel)
	defer stop()
	w := &write{ctx: ctx, changes: changes, done: make(chan struct{})}

	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return 0, &KeyError{changes[0].Key, ErrClosed}
	}
	q.pending = append(q.pending, w)
	q.start()
	q.mu.Unlock()

	select {
	case <-w.done:
	case <-ctx.Done():
	}
	return q.result(w)
}

// result sums up a write that is done or whose time is up.
func (q *Queue) result(w *write) (existed int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.parts == nil {
		return 0, &KeyError{w.changes[0].Key, q.notSent(w)}
	}
	var failed []*KeyError
	for _, p := range w.parts {
		err := p.err
		switch {
		case p.finished:
		case p.begun:
			err = fmt.Errorf("%w: %w", ErrUnknownOutcome, w.ctx.Err())
		default:
			err = q.notSent(w)
		}
		if err != nil {
			failed = append(failed, &KeyError{p.changes[0].Key, err})
		} else {
			existed += p.existed
		}
	}
	if len(failed) == 0 {
		return existed, nil
	}
	if len(failed) > 1 {
		others := make([]error, len(failed))
		for i, f := range failed {
			others[i] = fmt.Errorf("%q: %w", f.Key, f.Err)
		}
		failed[0].Err = errors.Join(others...)
	}
	return existed, failed[0]
}

// notSent says why a write was never sent.
func (q *Queue) notSent(w *write) error {
	switch {
	case q.ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrNotSent, ErrClosed)
	case errors.Is(w.ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%w: what came before it took too long: %w", ErrNotSent, w.ctx.Err())
	}
	return fmt.Errorf("%w: %w", ErrNotSent, w.ctx.Err())
}

// Wake makes the worker look at what the replica needs done.
func (q *Queue) Wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.wake = true
		q.start()
	}
}

// Close refuses new writes, lets the accepted ones finish until the context is
// done, and waits for the worker.
func (q *Queue) Close(ctx context.Context) {
	q.mu.Lock()
	q.closed = true
	if q.later != nil {
		q.later.Stop()
	}
	q.mu.Unlock()
	defer q.cancel()
	stop := context.AfterFunc(ctx, q.cancel)
	defer stop()
	q.idle.Wait()
	q.gone(q.room.Loose(true))
}

// start runs the worker unless it runs. The caller holds mu.
func (q *Queue) start() {
	if !q.running {
		q.running = true
		q.idle.Add(1)
		go q.work()
	}
}

// begin returns the parts whose callers still wait; from now on these
// can't know that nothing was sent.
func (q *Queue) begin(parts []*part) []*part {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := make([]*part, 0, len(parts))
	for _, p := range parts {
		if p.ctx.Err() != nil || q.ctx.Err() != nil {
			q.end(p, 0, q.notSent(p.write))
			continue
		}
		p.begun = true
		waiting = append(waiting, p)
	}
	return waiting
}

// finish notes the result of parts, which have it in common.
func (q *Queue) finish(parts []*part, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range parts {
		q.end(p, p.existed, err)
	}
}

// end notes the result of a part, and wakes the caller after the last one. The
// caller holds mu.
func (q *Queue) end(p *part, existed int, err error) {
	p.existed, p.err, p.finished = existed, err, true
	if p.left--; p.left == 0 {
		close(p.done)
	}
}

// busy says whether writes wait. If so, the worker looks at its chores again after them.
func (q *Queue) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wake = q.wake || len(q.pending) > 0
	return len(q.pending) > 0
}

// next returns all writes that wait, or false if there is nothing to do, and
// the worker ends.
func (q *Queue) next() ([]*write, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) == 0 && !q.wake {
		q.running = false
		return nil, false
	}
	writes := q.pending
	q.pending, q.wake = nil, false
	return writes, true
}

func (q *Queue) work() {
	defer q.idle.Done()
	for {
		writes, ok := q.next()
		if !ok {
			return
		}
		q.commit(writes)
		q.rest(q.chores())
	}
}

// rest sees to it that chores that failed are done later.
func (q *Queue) rest(failed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.later != nil {
		q.later.Stop()
		q.later = nil
	}
	q.failing = failed
	switch {
	case !failed:
		q.pause.Reset()
	case !q.closed:
		q.later = time.AfterFunc(q.pause.NextBackOff(), q.Wake)
	}
}
