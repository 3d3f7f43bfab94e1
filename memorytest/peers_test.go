package memorytest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-joe/joe"
)

// peerFaults are those of other memories for joe, and of opsdroid's.
var peerFaults = map[string]fault{
	"file: a failed Set is visible": {"RefusedWrites", func(t *testing.T, d *disk) joe.Memory {
		m := openFile(t, d)
		m.showsFailedSet = true
		return m
	}},
	"file: it is truncated in place": {"RefusedWrites", func(t *testing.T, d *disk) joe.Memory {
		m := openFile(t, d)
		m.truncatesInPlace = true
		return m
	}},
	"file: it keeps the caller's slice": {"CallersSlices", func(t *testing.T, d *disk) joe.Memory {
		m := openFile(t, d)
		m.keepsCallersSlice = true
		return m
	}},
	"bolt: Keys has a prefix": onSound("Keys", func(m *sound) joe.Memory {
		return tampered{Memory: m, keys: func() ([]string, error) {
			keys, err := m.Keys()
			for i, key := range keys {
				if !strings.Contains(key, "/") {
					keys[i] = "_joe/" + key
				}
			}
			return keys, err
		}}
	}),
	"bolt: a missing key is there": onSound("Missing", func(m *sound) joe.Memory {
		return tampered{Memory: m, get: func(key string) ([]byte, bool, error) {
			value, _, err := m.Get(key)
			return value, err == nil, err
		}}
	}),
	"bolt: a missing key was deleted": onSound("Missing", func(m *sound) joe.Memory {
		return tampered{Memory: m, del: func(key string) (bool, error) {
			_, err := m.Delete(key)
			return err == nil, err
		}}
	}),
	"bolt: a missing bucket panics": onSound("Missing", func(m *sound) joe.Memory {
		return tampered{Memory: m, get: func(key string) ([]byte, bool, error) {
			if len(m.data) == 0 {
				panic("nil bucket")
			}
			return m.Get(key)
		}}
	}),
	"opsdroid: a pointer is the value": onSound("Values", func(m *sound) joe.Memory {
		return changedValues(m, func(value []byte) []byte {
			var pointer map[string]json.RawMessage
			if json.Unmarshal(value, &pointer) == nil && len(pointer) == 1 && pointer["encrypted_val"] != nil {
				return pointer["encrypted_val"]
			}
			return value
		})
	}),
	"joe: Close forgets everything": onSound("Reopen", func(m *sound) joe.Memory {
		return tampered{Memory: m, close: func() error { clear(m.data); return m.Close() }}
	}),
}
