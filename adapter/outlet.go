package adapter

import (
	"context"
	"sync"

	"github.com/go-joe/joe"
)

// An outlet hands events to the bot's brain until the bot shuts down.
//
// Brain.Shutdown closes the channel that Brain.Emit sends to, and what is
// emitted at that moment panics. So the outlet puts a context of its own between
// the bot and the context that ends it: when that is done, the outlet is shut
// first, which waits for an Emit under way (it never takes long), and only then
// joe is told.
type outlet struct {
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

func (o *outlet) open(brain joe.EventEmitter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.brain = brain
}

func (o *outlet) shut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.brain = nil
}

// emit emits an event, or drops it if the bot is shutting down.
func (o *outlet) emit(evt any) { o.emitAll(emission{data: evt}) }

// emitAll emits events with no other of the adapter's between them.
func (o *outlet) emitAll(events ...emission) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.brain == nil {
		return
	}
	// Where the program shuts the brain down by itself, there is nothing to go
	// first by; the event that meets that is dropped like those after it.
	defer func() { _ = recover() }()
	for _, evt := range events {
		if evt.done == nil {
			o.brain.Emit(evt.data)
		} else {
			o.brain.Emit(evt.data, evt.done)
		}
	}
}
