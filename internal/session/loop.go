package session

import (
	"sync/atomic"
	"time"

	"github.com/petermattis/goid"
)

// A loop is the goroutine that syncs. Handlers at the client's syncer run on it, and may
// close the session.
type loop struct {
	goroutine atomic.Int64 // its ID; 0 until it runs
	ended     chan struct{}
}

func newLoop() *loop { return &loop{ended: make(chan struct{})} }

// Go starts the loop.
func (l *loop) Go(sync func()) {
	go func() {
		defer close(l.ended)
		l.goroutine.Store(goid.Get())
		sync()
	}()
}

// isHere says whether the caller runs on the loop's goroutine.
func (l *loop) isHere() bool { return l.goroutine.Load() == goid.Get() }

// wait waits until the loop has ended, and reports false if it does not within the bound.
// The loop can't wait for itself, and ends when the handler that closes has returned.
func (l *loop) wait(bound time.Duration) bool {
	if l.isHere() {
		return true
	}
	select {
	case <-l.ended:
		return true
	case <-time.After(bound):
		return false
	}
}
