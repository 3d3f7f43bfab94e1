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
	mu    sync.RWMutex // held for reading while an event is emitted; owns brain
	brain joe.EventEmitter
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
func (o *outlet) emit(evt any, done ...func(joe.Event)) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.brain == nil {
		return
	}
	// Where the program shuts the brain down by itself, there is nothing to go
	// first by; the event that meets that is dropped like those after it.
	defer func() { _ = recover() }()
	o.brain.Emit(evt, done...)
}
