package commit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// A mending is left to the memory that wrote what stands in the room, for a while that
// differs between memories: at least patience, and at most twice as long.
const patience = time.Second

// Between attempts of a chore that fails are pauses that grow.
const firstPause, longestPause = time.Second, 5 * time.Minute

// A delay says until when a chore is left alone.
type delay struct {
	until time.Time
	pause *backoff.ExponentialBackOff // nil: it has not failed
}

// chores does what the replica needs done, until it needs nothing more or nothing more can
// be done now. Callers wait for writes, so these come first; but one chore is done between
// two batches of them, so that steady writes don't keep any from being done. Once the
// queue is closed, Close sees to them.
func (q *Queue) chores() {
	var wait time.Duration // until one that is left alone now is to be done
	for again, done := true, false; again; {
		again, wait = false, 0
		tasks := q.room.Todo()
		q.drop(tasks)
		for _, task := range tasks {
			closed, busy := q.state()
			if closed || busy && done {
				return
			}
			left := q.left(task)
			switch {
			case left > 0 && (wait == 0 || left < wait):
				wait = left
			case left <= 0 && !q.carried(task):
				again, done = true, true
				_ = q.chore(task) // it is told of
			}
		}
	}
	q.rest(wait)
}

// delay returns the delay of a task.
func (q *Queue) delay(task replica.Task) *delay {
	d, ok := q.delays[task]
	if !ok {
		d = &delay{}
		if task.Mend && !task.Own {
			d.until = time.Now().Add(patience + rand.N(patience))
		}
		q.delays[task] = d
	}
	return d
}

// left returns how long a task is left alone.
func (q *Queue) left(task replica.Task) time.Duration { return time.Until(q.delay(task).until) }

// drop forgets the delays of state events that need nothing done any more.
func (q *Queue) drop(tasks []replica.Task) {
	if len(q.delays) == 0 {
		return
	}
	needed := make(map[string]bool, len(tasks))
	for _, task := range tasks {
		needed[task.StateKey] = true
	}
	for task := range q.delays {
		if _, ok := q.room.Task(task.StateKey); !ok && !needed[task.StateKey] {
			delete(q.delays, task)
		}
	}
}

// carried says whether a write that waits will store all that the task would.
func (q *Queue) carried(task replica.Task) bool {
	return (task.Mend || task.Copy) && q.waits(task.StateKey)
}

// chore does one task. If it is still needed after that, it is done again later.
func (q *Queue) chore(task replica.Task) error {
	err := q.interruptible(q.ctx, q.ctx, func(ctx, idle context.Context) error {
		switch {
		case task.Load:
			return q.load(ctx)
		case task.Ask:
			_, err := q.ask(ctx, task.StateKey, nil)
			return err
		default:
			return q.amend(ctx, idle, task)
		}
	})
	d := q.delay(task)
	if err == nil {
		d.until, d.pause = time.Now().Add(patience), nil
		return nil
	}
	if d.pause == nil {
		closed, _ := q.state()
		if !q.told(task) && q.ctx.Err() == nil && !(closed && (task.Load || task.Ask)) {
			q.env.Failed(task.StateKey, fmt.Errorf("%w; it is tried again", err))
		}
		d.pause = backoff.NewExponentialBackOff()
		d.pause.InitialInterval, d.pause.MaxInterval = firstPause, longestPause
	}
	d.until = time.Now().Add(d.pause.NextBackOff())
	return err
}

// told says whether a task of the same kind has failed already, and was told of.
func (q *Queue) told(task replica.Task) bool {
	for other, d := range q.delays {
		if d.pause != nil && other.Load == task.Load && other.Ask == task.Ask && other.Copy == task.Copy && other.Mend == task.Mend {
			return true
		}
	}
	return false
}

// amend stores what the replica asks for, if there is still anything to store.
func (q *Queue) amend(ctx, idle context.Context, task replica.Task) error {
	now, ok := q.room.Task(task.StateKey)
	if !ok || !now.Copy && !now.Mend || q.room.Behind(task.StateKey) {
		return nil
	}
	what := "writing again what was acknowledged and does not stand in the room"
	if now.Copy {
		what = "copying the memory from the older event type"
	}
	limit := q.env.Limit(task.StateKey)
	draft, err := q.room.Draft(task.StateKey, nil, nil, limit)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if size := wire.CanonicalSize(draft.Content); size > limit {
		return fmt.Errorf("%s: %w", what, &TooLargeError{Size: size, Limit: limit, Keys: draft.Keys()})
	}
	encrypted, _ := q.env.Encrypted() // what was in the clear stays so
	outcome, err := q.put(ctx, idle, task.StateKey, draft, encrypted, func() error { return q.note(task.StateKey, draft, nil) })
	if err != nil && outcome != Outdated { // that is done again, as the room is now
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// maxProofs is how often Close looks whether what was written stands.
const maxProofs = 16

// prove sees to it, until Close gives up waiting, that what was written stands in the
// room, and that it took nothing of others' away: what a write replaced is known only once
// its event is heard, so where others may have changed other keys the events are loaded.
// What fails is not tried again. The worker has ended.
func (q *Queue) prove() {
	failed, placed := make(map[replica.Task]bool), make(map[string]bool)
	for range maxProofs {
		done := false
		do := func(task replica.Task) {
			if !failed[task] && q.ctx.Err() == nil {
				failed[task] = q.chore(task) != nil
				done = true
			}
		}
		fresh := false // also what is written here
		for _, id := range q.room.Unplaced() {
			fresh = fresh || !placed[id]
			placed[id] = true
		}
		if fresh {
			do(replica.Task{Load: true})
		}
		for _, stateKey := range q.room.Unproved() {
			do(replica.Task{StateKey: stateKey, Ask: true})
		}
		for _, task := range q.room.Todo() {
			do(task)
		}
		if !done {
			return
		}
	}
}
