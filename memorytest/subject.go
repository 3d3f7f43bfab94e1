package memorytest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/go-joe/joe"
)

// patience bounds a call to a closed memory. It is a variable because the test
// of a memory that blocks need not wait that long.
var patience = time.Minute

// A subject is the memory under test beside a plain map, the model, that says
// what must be in it. It belongs to one subtest and its goroutine.
type subject struct {
	*testing.T
	open   func(t *testing.T) joe.Memory
	memory *careful
	closed bool
	model  map[string][]byte
	said   map[string]bool // what compareKeys has reported
}

// newSubject opens the memory of a subtest. It is closed when the subtest ends.
func newSubject(t *testing.T, open func(t *testing.T) joe.Memory) *subject {
	s := &subject{T: t, open: open, model: map[string][]byte{}, said: map[string]bool{}}
	s.openMemory()
	t.Cleanup(func() {
		if !s.closed {
			s.close()
		}
	})
	return s
}

func (s *subject) openMemory() {
	s.Helper()
	// Until open returns there is nothing to close, also if it ends the test.
	s.closed = true
	memory := s.open(s.T)
	if memory == nil {
		s.Fatal("open returned no memory")
	}
	s.memory = &careful{Memory: memory, t: s.T}
	s.closed = false
}

func (s *subject) close() {
	s.Helper()
	var err error
	s.call("Close", func() { err = s.memory.Close() })
	s.closed = true
	if err != nil {
		s.Errorf("Close failed: %v", err)
	}
}

// reopen closes the memory and opens it again.
func (s *subject) reopen() {
	s.Helper()
	if !s.closed {
		s.close()
	}
	s.openMemory()
}

// set stores a value that the memory has to accept.
func (s *subject) set(key string, value []byte) {
	s.Helper()
	if err := s.offer(key, value); err != nil {
		s.Errorf("Set(%s, %s) failed: %v", show(key), show(value), err)
	}
}

// offer stores a value that the memory may refuse. The model takes it over only
// if it was accepted.
func (s *subject) offer(key string, value []byte) (err error) {
	s.Helper()
	s.call("Set", func() { err = s.memory.Set(key, bytes.Clone(value)) })
	if err == nil {
		s.model[key] = bytes.Clone(value)
	}
	return err
}

// delete deletes a key and compares what the memory says of it with the model.
// Only a closed memory may refuse.
func (s *subject) delete(key string) {
	s.Helper()
	var ok bool
	var err error
	s.call("Delete", func() { ok, err = s.memory.Delete(key) })
	if err != nil {
		if !s.closed {
			s.Errorf("Delete(%s) failed: %v", show(key), err)
		}
		return
	}
	if _, want := s.model[key]; ok != want {
		s.Errorf("Delete(%s) said %t, want %t%s", show(key), ok, want, s.state())
	}
	delete(s.model, key)
}

// check compares all keys and values with the model.
func (s *subject) check() {
	s.Helper()
	s.checkKeys()
	for _, key := range s.keys() {
		s.checkGet(key)
	}
}

// checkGet compares one key, which may be missing, with the model. Only a
// closed memory may refuse.
func (s *subject) checkGet(key string) {
	s.Helper()
	var got []byte
	var ok bool
	var err error
	s.call("Get", func() { got, ok, err = s.memory.Get(key) })
	want, exists := s.model[key]
	switch {
	case err != nil:
		if !s.closed {
			s.Errorf("Get(%s) failed: %v", show(key), err)
		}
	case ok != exists:
		s.Errorf("Get(%s) said %t, want %t%s", show(key), ok, exists, s.state())
	case !ok && len(got) != 0:
		s.Errorf("Get(%s) returned %s for a key that is not there%s", show(key), show(got), s.state())
	case !equalValues(want, got):
		s.Errorf("Get(%s) returned %s, want %s%s", show(key), show(got), show(want), s.state())
	}
}

// checkKeys compares Keys with the model. Only a closed memory may refuse.
func (s *subject) checkKeys() {
	s.Helper()
	var got []string
	var err error
	s.call("Keys", func() { got, err = s.memory.Keys() })
	if err != nil {
		if !s.closed {
			s.Errorf("Keys failed: %v", err)
		}
		return
	}
	s.compareKeys(got)
}

// compareKeys compares keys in any order with those of the model. What it finds
// it reports once, as every later check finds it again.
func (s *subject) compareKeys(got []string) {
	s.Helper()
	count := map[string]int{}
	for _, key := range got {
		count[key]++
	}
	for _, key := range s.keys() {
		if count[key] == 0 {
			s.complain("Keys lacks %s%s", show(key), s.state())
		}
	}
	for _, key := range slices.Sorted(maps.Keys(count)) {
		if _, want := s.model[key]; !want {
			s.complain("Keys has %s, which is not there%s", show(key), s.state())
		}
		if count[key] > 1 {
			s.complain("Keys has %s %d times%s", show(key), count[key], s.state())
		}
	}
}

// complain reports something unless it was reported before.
func (s *subject) complain(format string, args ...any) {
	s.Helper()
	if text := fmt.Sprintf(format, args...); !s.said[text] {
		s.said[text] = true
		s.Error(text)
	}
}

// keys returns the keys of the model in order.
func (s *subject) keys() []string {
	return slices.Sorted(maps.Keys(s.model))
}

func (s *subject) state() string {
	if s.closed {
		return " (after Close: it may return an error instead)"
	}
	return ""
}

// call makes one call to the memory. A closed memory gets a goroutine of its own,
// since it must not block. A memory that has panicked is tested no further.
func (s *subject) call(name string, f func()) {
	s.Helper()
	if s.closed {
		done := make(chan struct{})
		go func() {
			defer close(done)
			f()
		}()
		select {
		case <-done:
		case <-time.After(patience):
			s.Fatalf("%s after Close did not return within %v", name, patience)
		}
	} else {
		f()
	}
	if s.memory.panicked.Load() {
		s.FailNow()
	}
}

// show quotes a key or a value, shortened if it is long.
func show[T string | []byte](text T) string {
	const limit = 60
	if len(text) <= limit {
		return fmt.Sprintf("%q", text)
	}
	return fmt.Sprintf("%q… (%d bytes)", text[:limit], len(text))
}
