package memorytest_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/go-joe/joe"
	"github.com/go-joe/matrix-memory/memorytest"
	"go.uber.org/zap"
)

// A memory of your own is usually opened from a file, a database or a server.
// Here it is the one that joe starts with.
func ExampleRun() {
	var t *testing.T // the parameter of your func TestMemory(t *testing.T)

	memories := map[string]joe.Memory{}
	memorytest.Run(t, func(t *testing.T) joe.Memory {
		// The same name means the same data, a new name a new memory. For a file
		// it would be filepath.Join(dir, path.Base(t.Name())).
		if memories[t.Name()] == nil {
			memories[t.Name()] = newInMemory()
		}
		return memories[t.Name()]
	})
}

// A memory that may fail is given a limit, so that the suite sees how it fails.
// For a file it would be a small disk, or a size that it refuses to exceed.
func ExampleRun_limit() {
	var t *testing.T // the parameter of your func TestMemory(t *testing.T)

	memories := map[string]joe.Memory{}
	memorytest.Run(t, func(t *testing.T) joe.Memory {
		if memories[t.Name()] == nil {
			memories[t.Name()] = limited{newInMemory()}
		}
		return memories[t.Name()]
	})
}

// limited is a memory that refuses what is larger than an event on Matrix.
type limited struct{ joe.Memory }

func (m limited) Set(key string, value []byte) error {
	if len(key)+len(value) > 64<<10 {
		return errors.New("the value is too large")
	}
	return m.Memory.Set(key, value)
}

// TestLimited is the example with a limit, but run.
func TestLimited(t *testing.T) {
	memories := map[string]joe.Memory{}
	memorytest.Run(t, func(t *testing.T) joe.Memory {
		if memories[t.Name()] == nil {
			memories[t.Name()] = limited{newInMemory()}
		}
		return memories[t.Name()]
	})
}

// TestJoesOwnMemory is the example, but run.
func TestJoesOwnMemory(t *testing.T) {
	memories := map[string]joe.Memory{}
	memorytest.Run(t, func(t *testing.T) joe.Memory {
		if memories[t.Name()] == nil {
			memories[t.Name()] = newInMemory()
		}
		return memories[t.Name()]
	})
}

// inMemory is joe's own memory. It is not exported, so it is reached through
// the joe.Storage that joe uses it with, whose encoder makes a new slice for
// each call. The memory alone would keep the caller's slices.
type inMemory struct{ *joe.Storage }

func newInMemory() joe.Memory {
	store := joe.NewStorage(zap.NewNop())
	store.SetMemoryEncoder(rawBytes{})
	return inMemory{store}
}

func (m inMemory) Set(key string, value []byte) error {
	return m.Storage.Set(key, value)
}

func (m inMemory) Get(key string) ([]byte, bool, error) {
	var value []byte
	ok, err := m.Storage.Get(key, &value)
	return value, ok, err
}

// Close is kept from the Storage, which would forget everything.
func (m inMemory) Close() error { return nil }

// rawBytes encodes a []byte as itself.
type rawBytes struct{}

func (rawBytes) Encode(value interface{}) ([]byte, error) {
	return bytes.Clone(value.([]byte)), nil
}

func (rawBytes) Decode(data []byte, target interface{}) error {
	*target.(*[]byte) = bytes.Clone(data)
	return nil
}
