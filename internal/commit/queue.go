// Package commit turns a room's writes into as few requests as possible.
//
// A [Queue] has one worker, which runs while there is work. Writes that arrive
// while a request is under way wait and are then committed together: one
// request for each state event that they touch, however many writers there
// are. Each writer gets its own result, and a value that the homeserver refuses
// fails only its own writer. This is group commit, as in bbolt's DB.Batch, but
// without its delay: the request under way is the delay.
//
// What a journal has acknowledged already goes the same way, with [Queue.Deliver]: as it
// may have been sent before, by this process or by one that was killed, it is asked first what
// became of it.
package commit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

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
	Repeated                // the same, and it may act upon an earlier request later
	Refused                 // certainly not stored
	Invalid                 // certainly not stored, on account of its content or size
	Unknown                 // perhaps stored
	Outdated                // certainly not stored, and to be made again: the room has become encrypted, or it was held back
)

// An Env is what a queue needs of the outside world. Its functions are called one at a
// time, by the queue's worker and, once that has ended, by Close; but Limit, Encrypted and Opened
// at any time, by an [Outlook] as well, and Seal by [Queue.Seal].
type Env struct {
	// Put stores a state event and returns its ID. It retries as it sees fit
	// until the context is done. Before each attempt it calls may: if that fails, nothing may
	// be sent, and it is Outdated. idle is nil where somebody waits for it. Else it ends when
	// somebody waits for the worker: what is held back then is not sent, and Outdated.
	Put func(ctx, idle context.Context, stateKey string, content json.RawMessage, may func() error) (eventID string, outcome Outcome, err error)
	// Standing returns what stands in the room under a state key; found is false if
	// nothing does.
	Standing func(ctx context.Context, stateKey string) (content json.RawMessage, found bool, err error)
	// Load loads the room again.
	Load func(ctx context.Context) error
	// Limit returns how many bytes of content fit in the event under a state key.
	Limit func(stateKey string) int

	// Encrypted says whether values go out encrypted, or why they can't go out at all.
	Encrypted func() (bool, error)
	// Seal sends a timeline event with this content, encrypted, and returns its ID. idle is as
	// for Put.
	Seal func(ctx, idle context.Context, content json.RawMessage) (eventID string, err error)
	// SealLimit is how many bytes of content fit in an encrypted event.
	SealLimit int
	// Opened returns what an encrypted event is known to hold under a key: a value, or
	// something that this version can't read.
	Opened func(eventID, key string) (value []byte, known bool, err error)
	// Removed is told of encrypted events that no entry points at: their keys were
	// deleted, or the state that was to point at them was not stored.
	Removed func(eventIDs []string)

	// Attempted notes, before a content is put, with what it is, so that the greatest depth is
	// known after a start: see [replica.Room.Reached]; and which of the changes it carries that
	// [Queue.Deliver] was given, so that each keeps its first [replica.Attempt]. If that fails,
	// no such change is sent. nil: there is no journal.
	Attempted func(stateKey string, with replica.Attempt, changes []Change) error

	// Settled is called when nothing is left that the replica needs done. It may be nil.
	Settled func()
	// Failed is told of work that no caller waits for and that could not be done. It
	// is tried again later, and told of once.
	Failed func(stateKey string, err error)
}

// A Change sets or deletes one key.
type Change struct {
	Key    string
	Value  []byte
	Delete bool

	// What a journal says of a change beside that, for [Queue.Deliver].
	Seq     uint64           // of two changes of one key the greater one is later
	Over    string           // what the key held when it was deleted: see [replica.Room.Held]
	Forced  bool             // a deletion that holds whatever the key holds by now, as after an own change that may still arrive
	Attempt *replica.Attempt // with what the change was sent first; nil: it was not
	Fresh   bool             // no change of the key may still arrive that a process before this one has sent
}

// A Queue commits the writes of one room. It is safe for concurrent use.
type Queue struct {
	room    *replica.Room
	env     Env
	timeout time.Duration

	ctx    context.Context // of the worker's requests; done once Close gives up waiting
	cancel context.CancelFunc
	idle   sync.WaitGroup // counts the worker
	ended  chan struct{}  // closed when Close has done all

	mu      sync.Mutex // owns all below
	pending []*write
	wake    bool
	running bool
	closed  bool
	later   *time.Timer        // wakes the worker when a chore that was left alone is to be done
	chored  context.CancelFunc // ends the chore that is under way; nil: none is
	yield   context.CancelFunc // makes that chore give way, if it can still be held back; nil: it does not
	cut     *time.Timer        // calls chored, as somebody waits for the worker

	// The worker's, and then Close's:
	delays  map[replica.Task]*delay // of chores
	doubted map[string]bool         // keys of writes whose outcome is unknown
	early   map[string]early        // by key
}

// A write is the changes of one caller, who waits for done. The queue's mu owns
// what changes of it.
type write struct {
	ctx     context.Context
	changes []Change
	journal bool            // it is one change of the journal
	idle    context.Context // ends when somebody waits for it; nil: somebody does. The worker's.
	parts   []*part         // nil until the worker takes it up
	left    int             // parts that are not finished
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
	return &Queue{
		room: room, env: env, timeout: timeout, ctx: ctx, cancel: cancel,
		ended: make(chan struct{}), delays: make(map[replica.Task]*delay), doubted: make(map[string]bool), early: make(map[string]early),
	}
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

	if !q.enqueue(w) {
		return 0, &KeyError{changes[0].Key, ErrClosed}
	}
	select {
	case <-w.done:
	case <-ctx.Done():
	}
	return q.result(w)
}

// enqueue makes writes wait for the worker. It reports false if the queue is closed.
func (q *Queue) enqueue(writes ...*write) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.pending = append(q.pending, writes...)
	q.hurry()
	q.start()
	return true
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
// done, waits for the worker, and sees to it that what was written stands in the room.
// A second one waits for the first, as long as its own context allows.
func (q *Queue) Close(ctx context.Context) {
	q.mu.Lock()
	first := !q.closed
	q.closed = true
	if q.later != nil {
		q.later.Stop()
	}
	q.hurry()
	q.mu.Unlock()
	stop := context.AfterFunc(ctx, q.cancel)
	defer stop()
	if !first {
		<-q.ended
		return
	}
	defer close(q.ended)
	defer q.cancel()
	q.idle.Wait()
	q.prove()
	q.settleAll()
	q.gone(q.room.Loose())
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

// hold notes that nothing of the parts was sent, until they are begun anew.
func (q *Queue) hold(parts []*part) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range parts {
		p.begun = false
	}
}

// state says whether the queue is closed, and whether writes wait.
func (q *Queue) state() (closed, busy bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed, len(q.pending) > 0
}

// waits says whether a write to a state event waits.
func (q *Queue) waits(stateKey string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(q.pending, func(w *write) bool {
		return slices.ContainsFunc(w.changes, func(c Change) bool { return q.room.StateKey(c.Key) == stateKey })
	})
}

// interruptible does what no caller waits for as long as idle lasts, within the timeout. Once
// somebody waits for the worker, it may take half of that, so that those who wait have the other
// half, and the idle that it is given ends. There is none where somebody waits already: then it
// is done between two writes.
func (q *Queue) interruptible(ctx, idle context.Context, do func(ctx, idle context.Context) error) error {
	if idle == nil {
		return do(ctx, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	q.mu.Lock()
	q.chored = cancel
	if len(q.pending) > 0 || q.closed {
		idle = nil
		q.hurry()
	} else {
		idle, q.yield = context.WithCancel(idle)
	}
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.cut != nil {
			q.cut.Stop()
		}
		if q.yield != nil {
			q.yield()
		}
		q.chored, q.yield, q.cut = nil, nil, nil
	}()
	return do(ctx, idle)
}

// hurry bounds the chore that is under way, if there is one, by half the timeout from
// now on, and makes it give way. The caller holds mu.
func (q *Queue) hurry() {
	if q.yield != nil {
		q.yield()
	}
	if q.chored != nil && q.cut == nil {
		q.cut = time.AfterFunc(q.timeout/2, q.chored)
	}
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
		q.chores()
		q.gone(q.room.Loose())
		if q.env.Settled != nil && len(q.room.Todo()) == 0 {
			q.env.Settled()
		}
	}
}

// rest wakes the worker after a while, if it is not zero.
func (q *Queue) rest(wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.later != nil {
		q.later.Stop()
		q.later = nil
	}
	if wait > 0 && !q.closed {
		q.later = time.AfterFunc(wait, q.Wake)
	}
}
