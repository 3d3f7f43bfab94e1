package room

import (
	"context"
	"time"
)

// A Budget is the time that one operation has for all its requests: a timeout from
// the first one on, and no longer than the context that it was made with, whose values
// don't count. Most reads make no request, and cost nothing.
type Budget struct {
	parent  context.Context
	timeout time.Duration
	ctx     context.Context
	cancel  context.CancelFunc
}

// NewBudget returns the budget of an operation. Its End releases what it took.
func NewBudget(ctx context.Context, timeout time.Duration) Budget {
	return Budget{parent: ctx, timeout: timeout}
}

// Context returns the context of the operation's requests.
func (b *Budget) Context() context.Context {
	if b.ctx == nil {
		b.ctx, b.cancel = context.WithTimeout(valueless{b.parent}, b.timeout)
	}
	return b.ctx
}

// End ends what is under way of the operation still.
func (b *Budget) End() {
	if b.cancel != nil {
		b.cancel()
	}
}

// valueless hides a context's values: a logger among them would be handed what must
// not be logged, and writers that share a request have none in common.
type valueless struct{ context.Context }

func (valueless) Value(any) any { return nil }
