package rig

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// NoLeaks fails the test if it leaves goroutines behind, but for those that the
// options let pass. What the test has ended may take a while to be gone.
func NoLeaks(t testing.TB, options ...goleak.Option) {
	const bound = 10 * time.Second
	options = append(options, goleak.IgnoreCurrent())
	t.Cleanup(func() {
		t.Helper()
		for start := time.Now(); ; { // each Find takes half a second to find something
			err := goleak.Find(options...)
			if err == nil {
				return
			}
			if time.Since(start) > bound {
				t.Fatal(err)
			}
		}
	})
}
