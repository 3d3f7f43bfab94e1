package rig

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Eventually returns a function that waits until a condition holds, at most as long
// as bound. The condition runs in the caller's goroutine, so it may check things
// itself with a testing.TB.
func Eventually(bound time.Duration) func(t testing.TB, condition func() bool, message string, args ...any) {
	return func(t testing.TB, condition func() bool, message string, args ...any) {
		t.Helper()
		for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
			held := condition()
			if time.Since(start) > bound { // what comes too late does not count
				require.FailNow(t, fmt.Sprintf("gave up after %s: %s", bound, fmt.Sprintf(message, args...)))
			}
			if held {
				return
			}
		}
	}
}

// Within does something and fails the test if that took longer than bound.
func Within(t testing.TB, bound time.Duration, what string, do func()) {
	t.Helper()
	start := time.Now()
	do()
	require.Less(t, time.Since(start), bound, what)
}

// Stopped waits, and says whether it is time to stop.
func Stopped(stop <-chan struct{}, pause time.Duration) bool {
	select {
	case <-stop:
		return true
	case <-time.After(pause):
		return false
	}
}
