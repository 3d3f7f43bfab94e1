package rig

import (
	"testing"

	"go.uber.org/goleak"
)

// NoLeaks fails the test if it leaves goroutines behind. Joe itself leaves those
// that wait for signals.
func NoLeaks(t testing.TB) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/go-joe/joe.cliContext.func1"))
	})
}
