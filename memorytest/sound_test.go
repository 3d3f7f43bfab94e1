package memorytest

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
)

var (
	errClosed   = errors.New("the memory is closed")
	errTooLarge = errors.New("the value is too large")
)

// A disk outlives the memories that are opened on it.
type disk struct {
	data   map[string][]byte // what sound keeps
	file   []byte            // what fileMemory keeps
	writes int
	size   int // the most bytes it ever held
}

// sound is a memory without faults. Like Matrix it refuses large values. The
// faulty memories are made from it.
type sound struct {
	*disk
	closed bool
}

func (m *sound) Set(key string, value []byte) error {
	if m.closed {
		return errClosed
	}
	if len(key)+len(value) > 1<<16 {
		return errTooLarge
	}
	m.data[key] = bytes.Clone(value)
	m.writes++
	size := 0
	for key, value := range m.data {
		size += len(key) + len(value)
	}
	m.size = max(m.size, size)
	return nil
}

func (m *sound) Get(key string) ([]byte, bool, error) {
	if m.closed {
		return nil, false, errClosed
	}
	value, ok := m.data[key]
	return bytes.Clone(value), ok, nil
}

func (m *sound) Delete(key string) (bool, error) {
	if m.closed {
		return false, errClosed
	}
	_, ok := m.data[key]
	if ok {
		delete(m.data, key)
		m.writes++
	}
	return ok, nil
}

func (m *sound) Keys() ([]string, error) {
	if m.closed {
		return nil, errClosed
	}
	return slices.Collect(maps.Keys(m.data)), nil
}

func (m *sound) Close() error {
	if m.closed {
		return errClosed
	}
	m.closed = true
	return nil
}

// disks hands out one disk for each name, as Run asks for.
type disks map[string]*disk

func (d disks) of(t *testing.T) *disk {
	if d[t.Name()] == nil {
		d[t.Name()] = &disk{data: map[string][]byte{}}
	}
	return d[t.Name()]
}

// TestRunPassesSoundMemory also holds Run to what it promises about its costs,
// and to opening a name only after it was closed.
func TestRunPassesSoundMemory(t *testing.T) {
	disks := disks{}
	current := map[string]*sound{}
	opened := 0
	t.Run("sound", func(t *testing.T) {
		Run(t, func(t *testing.T) joe.Memory {
			last := current[t.Name()]
			require.True(t, last == nil || last.closed, "opened twice at a time")
			current[t.Name()] = &sound{disk: disks.of(t)}
			opened++
			return current[t.Name()]
		})
	})
	writes := 0
	for name, disk := range disks {
		require.True(t, current[name].closed, "%s was not closed", name)
		require.LessOrEqual(t, disk.size, 48<<10, "size of %s", name)
		writes += disk.writes
		t.Logf("%s: %d writes, %d bytes", name, disk.writes, disk.size)
	}
	t.Logf("%d memories, opened %d times, %d writes", len(disks), opened, writes)
	require.LessOrEqual(t, len(disks), 12)
	require.LessOrEqual(t, writes, 150)
}

// TestRunPassesLimitlessMemory shows that a memory may accept what others refuse,
// and may go on after Close.
func TestRunPassesLimitlessMemory(t *testing.T) {
	disks := disks{}
	Run(t, func(t *testing.T) joe.Memory { return limitless{&sound{disk: disks.of(t)}} })
}

type limitless struct{ *sound }

func (m limitless) Set(key string, value []byte) error {
	m.data[key] = bytes.Clone(value)
	return nil
}

func (m limitless) Close() error { return nil }
