package rig

import (
	"testing"

	"go.uber.org/goleak"
)

// NoLeaks fails the test if it leaves goroutines behind, but for those that the
// options let pass.
func NoLeaks(t testing.TB, options ...goleak.Option) {
	options = append(options, goleak.IgnoreCurrent())
	t.Cleanup(func() { goleak.VerifyNone(t, options...) })
}
