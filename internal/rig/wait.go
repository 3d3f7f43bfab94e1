package rig

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Eventually returns a function that waits until a condition holds, at most as long
// as bound. The condition may check things itself with a testing.TB.
func Eventually(bound time.Duration) func(t testing.TB, condition func() bool, message string, args ...any) {
	return func(t testing.TB, condition func() bool, message string, args ...any) {
		t.Helper()
		require.Eventually(t, condition, bound, 20*time.Millisecond, append([]any{message}, args...)...)
	}
}

// Within fails the test unless something ends in time.
func Within(t testing.TB, bound time.Duration, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
		if t.Failed() {
			t.FailNow() // here, as it can't be done in the other goroutine
		}
	case <-time.After(bound):
		t.Fatalf("%s takes longer than %s", what, bound)
	}
}
