package session

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"maunium.net/go/mautrix/id"
)

// maxReads is how many rooms are read at the same time.
const maxReads = 4

// reads are the rooms that are to be read, each once for all who ask for it before that
// begins. Few are read at the same time: after a gap of sync it may be all that are in use.
type reads struct {
	snapshot func(id.RoomID) (*Snapshot, error)

	mu      sync.Mutex // owns what follows
	closed  bool
	waiting []*read // those that have not begun, in the order in which they were asked for
	reading []*read // those that have; no two are of the same room, and there are at most maxReads
	all     sync.WaitGroup
}

// A read of a room.
type read struct {
	room     id.RoomID
	asking   int           // callers that wait; owned by reads.mu
	done     chan struct{} // closed when there is a result
	snapshot *Snapshot
	err      error
}

// ask returns a snapshot that was begun after the call.
func (rs *reads) ask(ctx context.Context, room id.RoomID) (*Snapshot, error) {
	r := rs.join(room)
	if r == nil {
		return nil, ErrClosed
	}
	select {
	case <-r.done:
		return r.snapshot, r.err
	case <-ctx.Done():
		rs.leave(r)
		return nil, fmt.Errorf("waiting for the room's state, which is being read: %w", ctx.Err())
	}
}

// join returns the room's next read. It returns nil if there is none, as the session is
// being closed.
func (rs *reads) join(room id.RoomID) *read {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.closed {
		return nil
	}
	i := slices.IndexFunc(rs.waiting, func(r *read) bool { return r.room == room })
	if i < 0 {
		i = len(rs.waiting)
		rs.waiting = append(rs.waiting, &read{room: room, done: make(chan struct{})})
	}
	r := rs.waiting[i]
	r.asking++
	rs.start()
	return r
}

// start begins reads that wait, as many as there may be. It is called with rs.mu held.
func (rs *reads) start() {
	for len(rs.reading) < maxReads {
		i := slices.IndexFunc(rs.waiting, func(r *read) bool {
			return !slices.ContainsFunc(rs.reading, func(other *read) bool { return other.room == r.room })
		})
		if i < 0 {
			return
		}
		r := rs.waiting[i]
		rs.waiting = slices.Delete(rs.waiting, i, i+1)
		rs.reading = append(rs.reading, r)
		rs.all.Go(func() { rs.run(r) })
	}
}

// run reads a room, and begins what waited for that.
func (rs *reads) run(r *read) {
	r.snapshot, r.err = rs.snapshot(r.room)
	close(r.done)
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.reading = slices.DeleteFunc(rs.reading, func(other *read) bool { return other == r })
	rs.start()
}

// leave takes back what join has asked for. What nobody waits for is not begun.
func (rs *reads) leave(r *read) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r.asking--; r.asking == 0 {
		rs.waiting = slices.DeleteFunc(rs.waiting, func(other *read) bool { return other == r })
	}
}

// close refuses further reads and waits for those that were asked for. They end at once
// when the session's life has ended.
func (rs *reads) close() {
	rs.mu.Lock()
	rs.closed = true
	rs.mu.Unlock()
	rs.all.Wait()
}
