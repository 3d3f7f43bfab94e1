// Package outlet hands events to a bot that may be shut down meanwhile.
//
// A memory and the adapter on it share one [Outlet], so that nothing comes between events that the one
// hands over together.
package outlet

import (
	"context"
	"sync"

	"github.com/go-joe/joe"
)

// An Outlet hands events to the bot's brain until the bot shuts down, one at a time.
//
// Brain.Emit never blocks: what the bot has no time for yet is queued there without
// end, and Brain.Shutdown works off all of it. So an event is emitted when joe is
// done with the one before; what else waits, waits where it is bounded and dropped at
// the end: in the lanes of the adapter's rooms, and with the memory's watcher. They take
// turns in the order in which they came. Joe is done with an event when its handlers have returned or it no longer
// waits for them.
//
// Brain.Shutdown closes the channel that Brain.Emit sends to, and what is
// emitted at that moment panics. So the outlet puts a context of its own between
// the bot and the context that ends it: when that is done, the outlet is shut
// first, which waits for an Emit under way (it never takes long), and only then
// joe is told.
type Outlet struct {
	turn chan struct{} // full while joe has an event; made by Open
	over chan struct{} // closed by Shut; made by Open

	mu    sync.Mutex // held while events are emitted; owns brain
	brain joe.EventEmitter
}

// An Emission is an event, and what is to run when joe is done with it, if anything.
type Emission struct {
	Data any
	Done func(joe.Event)
}

// ShutFirst returns a context that is done after outer is done and the outlet shut.
func (o *Outlet) ShutFirst(outer context.Context, then func()) context.Context {
	ctx, cancel := context.WithCancel(context.WithoutCancel(outer))
	context.AfterFunc(outer, func() {
		o.Shut()
		then()
		cancel()
	})
	return ctx
}

// Open is called before anything is emitted. Only the first call counts.
func (o *Outlet) Open(brain joe.EventEmitter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over == nil {
		o.turn, o.over, o.brain = make(chan struct{}, 1), make(chan struct{}), brain
	}
}

// Shut drops what is emitted from now on. It waits for an emission that is under way.
func (o *Outlet) Shut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.brain != nil {
		o.brain = nil
		close(o.over)
	}
}

// Emit emits an event when joe is done with those before, or drops it if the bot is
// shutting down.
func (o *Outlet) Emit(evt any) { o.EmitAll(context.Background(), Emission{Data: evt}) }

// EmitAll emits events with no other between them, unless the context ends before it is their turn. It must
// not be called by what joe waits for, as a handler.
func (o *Outlet) EmitAll(ctx context.Context, events ...Emission) {
	select {
	case o.turn <- struct{}{}:
	case <-o.over:
		return
	case <-ctx.Done():
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.brain == nil {
		return
	}
	// Where the program shuts the brain down by itself, there is nothing to go
	// first by; the event that meets that is dropped, and those after it wait for
	// the end, which is near.
	defer func() { _ = recover() }()
	for i, evt := range events {
		last := i == len(events)-1
		o.brain.Emit(evt.Data, func(handled joe.Event) {
			if evt.Done != nil {
				evt.Done(handled)
			}
			if last {
				<-o.turn
			}
		})
	}
}
