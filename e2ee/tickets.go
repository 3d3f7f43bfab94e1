//go:build goolm

package e2ee

import "context"

// tickets bound how much of a kind runs in the background that strangers bring about.
type tickets chan struct{}

const (
	maxUnwedging = 8
	maxAnswering = 64 // others' devices ask for many keys at once
)

// runSome runs a task in the background, unless too many of its kind run.
func (c *crypt) runSome(kind tickets, task func(context.Context)) {
	select {
	case kind <- struct{}{}:
		c.run(func(ctx context.Context) {
			defer func() { <-kind }()
			task(ctx)
		})
	default:
	}
}
