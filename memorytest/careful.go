package memorytest

import (
	"errors"
	"runtime/debug"
	"sync/atomic"
	"testing"

	"github.com/go-joe/joe"
)

// careful is the memory under test, of which a call that panics fails the test
// and returns an error, so that the other tests still run. After that it is not
// called again: it may have kept a lock.
type careful struct {
	joe.Memory
	t        *testing.T
	panicked atomic.Bool
}

var errPanicked = errors.New("a call has panicked")

func (m *careful) Set(key string, value []byte) error {
	return m.call("Set", func() error { return m.Memory.Set(key, value) })
}

func (m *careful) Get(key string) (value []byte, ok bool, err error) {
	err = m.call("Get", func() (err error) { value, ok, err = m.Memory.Get(key); return err })
	return value, ok, err
}

func (m *careful) Delete(key string) (ok bool, err error) {
	err = m.call("Delete", func() (err error) { ok, err = m.Memory.Delete(key); return err })
	return ok, err
}

func (m *careful) Keys() (keys []string, err error) {
	err = m.call("Keys", func() (err error) { keys, err = m.Memory.Keys(); return err })
	return keys, err
}

func (m *careful) Close() error { return m.call("Close", m.Memory.Close) }

func (m *careful) call(name string, f func() error) (err error) {
	if m.panicked.Load() {
		return errPanicked
	}
	defer func() {
		if reason := recover(); reason != nil {
			m.panicked.Store(true)
			m.t.Errorf("%s panicked: %v\n%s", name, reason, debug.Stack())
			err = errPanicked
		}
	}()
	return f()
}
