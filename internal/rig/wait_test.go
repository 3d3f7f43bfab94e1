package rig

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// failure returns how something fails for an example, which panics.
func failure(do func(example testing.TB)) (text string) {
	defer func() { text = fmt.Sprint(recover()) }()
	do(Example())
	return ""
}

func TestEventually(t *testing.T) {
	left := 3
	Eventually(time.Minute)(t, func() bool { left--; return left == 0 }, "the third time")
	require.Zero(t, left)

	require.Contains(t, failure(func(example testing.TB) {
		Eventually(time.Millisecond)(example, func() bool { return false }, "the %s time", "fourth")
	}), "gave up after 1ms: the fourth time")
	require.Contains(t, failure(func(example testing.TB) {
		Eventually(time.Nanosecond)(example, func() bool { <-time.After(time.Millisecond); return true }, "in time")
	}), "gave up after 1ns: in time", "it holds, but too late")
	require.Contains(t, failure(func(example testing.TB) {
		Eventually(time.Minute)(example, func() bool { require.Fail(example, "in the condition"); return true }, "never")
	}), "in the condition", "in the goroutine of the test")
}

func TestWithin(t *testing.T) {
	Within(t, time.Minute, "nothing", func() {})
	require.Contains(t, failure(func(example testing.TB) {
		Within(example, 0, "doing nothing", func() {})
	}), "doing nothing")
	require.Contains(t, failure(func(example testing.TB) {
		Within(example, time.Minute, "checking", func() { require.Fail(example, "as it is wrong") })
	}), "as it is wrong", "in the goroutine of the test")
}
