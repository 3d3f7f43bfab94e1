package rig

import (
	"context"
	"fmt"
	"slices"
	"testing"
)

// Example returns a testing.TB for an example. It panics where a test would fail,
// and what it is to clean up is cleaned up after the last test.
func Example() testing.TB { return example{} }

// An example lacks the methods that no example needs.
type example struct{ testing.TB }

// exampleCleanups are left by the examples, which run one after another.
var exampleCleanups []func()

func endExamples() {
	for _, cleanup := range slices.Backward(exampleCleanups) {
		cleanup()
	}
}

func (example) Helper()                           {}
func (example) Name() string                      { return "" }
func (example) Context() context.Context          { return context.Background() }
func (example) Cleanup(cleanup func())            { exampleCleanups = append(exampleCleanups, cleanup) }
func (example) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (example) FailNow()                          { panic("the example failed") }
