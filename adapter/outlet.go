package adapter

import (
	"context"
	"sync"

	"github.com/go-joe/joe"
)

// An outlet hands events to the bot's brain until the bot shuts down, one at a time.
//
// Brain.Emit never blocks: what the bot has no time for yet is queued there without
// end, and Brain.Shutdown works off all of it. So an event is emitted when joe is
// done with the one before; what else waits, waits in the rooms' lanes, where
// it is bounded and dropped at the end. The lanes take turns in the order in which
// they came. Joe is done with an event when its handlers have returned or it no longer
// waits for them.
//
// Brain.Shutdown closes the channel that Brain.Emit sends to, and what is
// emitted at that moment panics. So the outlet puts a context of its own between
// the bot and the context that ends it: when that is done, the outlet is shut
// first, which waits for an Emit under way (it never takes long), and only then
// joe is told.
type outlet struct {
	turn chan struct{} // full while joe has an event; made by open
	over chan struct{} // closed by shut; made by open

	mu    sync.Mutex // held while events are emitted; owns brain
	brain joe.EventEmitter
}

// An emission is an event, and what is to run when joe is done with it, if anything.
type emission struct {
	data any
	done func(joe.Event)
}

// shutFirst returns a context that is done after outer is done and the outlet shut.
func (o *outlet) shutFirst(outer context.Context, then func()) context.Context {
	ctx, cancel := context.WithCancel(context.WithoutCancel(outer))
	context.AfterFunc(outer, func() {
		o.shut()
		then()
		cancel()
	})
	return ctx
}

// open is called before anything is emitted.
func (o *outlet) open(brain joe.EventEmitter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.turn, o.over, o.brain = make(chan struct{}, 1), make(chan struct{}), brain
}

func (o *outlet) shut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.brain != nil {
		o.brain = nil
		close(o.over)
	}
}

// emit emits an event when joe is done with those before, or drops it if the bot is
// shutting down.
func (o *outlet) emit(evt any) { o.emitAll(emission{data: evt}) }

// emitAll emits events with no other of the adapter's between them. It must not be
// called by what joe waits for, as a handler.
func (o *outlet) emitAll(events ...emission) {
	select {
	case o.turn <- struct{}{}:
	case <-o.over:
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
		o.brain.Emit(evt.data, func(handled joe.Event) {
			if evt.done != nil {
				evt.done(handled)
			}
			if last {
				<-o.turn
			}
		})
	}
}
