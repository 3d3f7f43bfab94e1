package memorytest

import (
	"bytes"
	"encoding/json"

	"github.com/go-joe/joe"
)

// tampered is a memory of which some methods are replaced.
type tampered struct {
	joe.Memory
	set   func(key string, value []byte) error
	get   func(key string) ([]byte, bool, error)
	del   func(key string) (bool, error)
	keys  func() ([]string, error)
	close func() error
}

func (m tampered) Set(key string, value []byte) error {
	if m.set != nil {
		return m.set(key, value)
	}
	return m.Memory.Set(key, value)
}

func (m tampered) Get(key string) ([]byte, bool, error) {
	if m.get != nil {
		return m.get(key)
	}
	return m.Memory.Get(key)
}

func (m tampered) Delete(key string) (bool, error) {
	if m.del != nil {
		return m.del(key)
	}
	return m.Memory.Delete(key)
}

func (m tampered) Keys() ([]string, error) {
	if m.keys != nil {
		return m.keys()
	}
	return m.Memory.Keys()
}

func (m tampered) Close() error {
	if m.close != nil {
		return m.close()
	}
	return m.Memory.Close()
}

// changedValues is a memory that changes values before it stores them.
func changedValues(m *sound, change func([]byte) []byte) joe.Memory {
	return tampered{Memory: m, set: func(key string, value []byte) error {
		return m.Set(key, change(bytes.Clone(value)))
	}}
}

// changedKeys is a memory that takes some keys for others.
func changedKeys(m *sound, change func(string) string) joe.Memory {
	return tampered{
		Memory: m,
		set:    func(key string, value []byte) error { return m.Set(change(key), value) },
		get:    func(key string) ([]byte, bool, error) { return m.Get(change(key)) },
		del:    func(key string) (bool, error) { return m.Delete(change(key)) },
	}
}

// reencoded changes values that are JSON the way a round trip through Go does.
func reencoded(useNumber bool) func([]byte) []byte {
	return func(value []byte) []byte {
		dec := json.NewDecoder(bytes.NewReader(value))
		if useNumber {
			dec.UseNumber()
		}
		var tree interface{}
		if !json.Valid(value) || dec.Decode(&tree) != nil {
			return value
		}
		changed, err := json.Marshal(tree)
		if err != nil {
			return value
		}
		return changed
	}
}
