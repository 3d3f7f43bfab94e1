package adapter_test

import (
	"slices"
	"sync"
	"testing"
)

// A record collects what handlers were handed.
type record[T any] struct {
	mu  sync.Mutex
	all []T
}

func (r *record[T]) add(x T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, x)
}

func (r *record[T]) list() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// wait waits until at least n were collected.
func (r *record[T]) wait(t testing.TB, n int) []T {
	t.Helper()
	eventually(t, func() bool { return len(r.list()) >= n }, "fewer than %d events came", n)
	return r.list()
}
