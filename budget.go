package matrix

import (
	"context"
	"time"
)

// A budget is the time that one operation has for all its requests:
// Config.Timeout, from the first one on. Most reads make none, and cost nothing.
type budget struct {
	timeout time.Duration
	ctx     context.Context
	cancel  context.CancelFunc
}

func (m *Memory) budget() budget { return budget{timeout: m.conf.Timeout} }

func (b *budget) context() context.Context {
	if b.ctx == nil {
		b.ctx, b.cancel = context.WithTimeout(context.Background(), b.timeout)
	}
	return b.ctx
}

func (b *budget) end() {
	if b.cancel != nil {
		b.cancel()
	}
}
