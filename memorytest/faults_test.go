package memorytest

import (
	"bytes"
	"encoding/json"
	"errors"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-joe/joe"
)

// faults are what a memory of one's own may get wrong.
var faults = map[string]fault{
	// Values.
	"values are trimmed": onSound("Values", func(m *sound) joe.Memory { return changedValues(m, bytes.TrimSpace) }),
	"values end at NUL": onSound("Values", func(m *sound) joe.Memory {
		return changedValues(m, func(value []byte) []byte { value, _, _ = bytes.Cut(value, []byte{0}); return value })
	}),
	"values become valid UTF-8": onSound("Values", func(m *sound) joe.Memory {
		return changedValues(m, func(value []byte) []byte { return bytes.ToValidUTF8(value, []byte("\ufffd")) })
	}),
	"numbers become float64":     onSound("Values", func(m *sound) joe.Memory { return changedValues(m, reencoded(false)) }),
	"duplicate members are lost": onSound("Values", func(m *sound) joe.Memory { return changedValues(m, reencoded(true)) }),
	"lone surrogates are replaced": onSound("Values", func(m *sound) joe.Memory {
		return changedValues(m, func(value []byte) []byte {
			return bytes.ReplaceAll(value, []byte(`"\ud800"`), []byte("\"\ufffd\""))
		})
	}),
	"1.0 becomes 1": onSound("Values", func(m *sound) joe.Memory {
		return changedValues(m, func(value []byte) []byte { return bytes.TrimSuffix(value, []byte(".0")) })
	}),
	"nil is missing": onSound("Values", func(m *sound) joe.Memory {
		return tampered{Memory: m, get: func(key string) ([]byte, bool, error) {
			value, ok, err := m.Get(key)
			return value, ok && value != nil, err
		}}
	}),
	"an empty value is missing": onSound("Set", func(m *sound) joe.Memory {
		return tampered{Memory: m, get: func(key string) ([]byte, bool, error) {
			value, ok, err := m.Get(key)
			return value, ok && len(value) > 0, err
		}}
	}),
	"setting nil deletes": onSound("Values", func(m *sound) joe.Memory {
		return tampered{Memory: m, set: func(key string, value []byte) error {
			if value == nil {
				_, err := m.Delete(key)
				return err
			}
			return m.Set(key, value)
		}}
	}),
	"values that are not JSON are refused": onSound("Values", func(m *sound) joe.Memory {
		return tampered{Memory: m, set: func(key string, value []byte) error {
			if !json.Valid(value) {
				return errors.New("not JSON")
			}
			return m.Set(key, value)
		}}
	}),
	"an overwritten value stays": onSound("Set", func(m *sound) joe.Memory {
		return tampered{Memory: m, set: func(key string, value []byte) error {
			if _, ok := m.data[key]; ok {
				return nil
			}
			return m.Set(key, value)
		}}
	}),
	"a value lands under another key too": onSound("Set", func(m *sound) joe.Memory {
		last := ""
		return tampered{Memory: m, set: func(key string, value []byte) error {
			if _, ok := m.data[last]; ok {
				m.data[last] = bytes.Clone(value)
			}
			last = key
			return m.Set(key, value)
		}}
	}),

	// Keys.
	"keys are lower-cased": onSound("Keys", func(m *sound) joe.Memory { return changedKeys(m, strings.ToLower) }),
	"keys are trimmed":     onSound("Keys", func(m *sound) joe.Memory { return changedKeys(m, strings.TrimSpace) }),
	"keys are paths":       onSound("Keys", func(m *sound) joe.Memory { return changedKeys(m, path.Clean) }),
	"keys become valid UTF-8": onSound("Keys", func(m *sound) joe.Memory {
		return changedKeys(m, func(key string) string { return strings.ToValidUTF8(key, "\ufffd") })
	}),
	"keys end at NUL": onSound("Keys", func(m *sound) joe.Memory {
		return changedKeys(m, func(key string) string { key, _, _ = strings.Cut(key, "\x00"); return key })
	}),
	"keys are cut": onSound("Keys", func(m *sound) joe.Memory {
		return changedKeys(m, func(key string) string { return key[:min(len(key), 255)] })
	}),
	"long keys are refused": onSound("Keys", func(m *sound) joe.Memory {
		return tampered{Memory: m, set: func(key string, value []byte) error {
			if len(key) > 255 {
				return errTooLarge
			}
			return m.Set(key, value)
		}}
	}),
	"the empty key is refused": onSound("Keys", func(m *sound) joe.Memory {
		return tampered{Memory: m, set: func(key string, value []byte) error {
			if key == "" {
				return errors.New("no key")
			}
			return m.Set(key, value)
		}}
	}),
	"Keys has a deleted key": onSound("Delete", func(m *sound) joe.Memory {
		var deleted []string
		return tampered{
			Memory: m,
			del: func(key string) (bool, error) {
				ok, err := m.Delete(key)
				if ok {
					deleted = append(deleted, key)
				}
				return ok, err
			},
			keys: func() ([]string, error) {
				keys, err := m.Keys()
				return append(keys, deleted...), err
			},
		}
	}),
	"Keys is as old as the memory": onSound("Set", func(m *sound) joe.Memory {
		keys, _ := m.Keys()
		return tampered{Memory: m, keys: func() ([]string, error) { return slices.Clone(keys), nil }}
	}),
	"Keys has an overwritten key twice": onSound("Set", func(m *sound) joe.Memory {
		var keys []string
		return tampered{
			Memory: m,
			set: func(key string, value []byte) error {
				keys = append(keys, key)
				return m.Set(key, value)
			},
			keys: func() ([]string, error) { return slices.Clone(keys), nil },
		}
	}),

	// Panics.
	"every Set panics and keeps its lock": onSound("Concurrency", func(m *sound) joe.Memory {
		var mu sync.Mutex
		return tampered{
			Memory: m,
			set:    func(string, []byte) error { mu.Lock(); panic("assignment to entry in nil map") },
			get:    func(key string) ([]byte, bool, error) { mu.Lock(); defer mu.Unlock(); return m.Get(key) },
			close:  func() error { mu.Lock(); defer mu.Unlock(); return m.Close() },
		}
	}),

	// Delete.
	"Delete says false": onSound("Delete", func(m *sound) joe.Memory {
		return tampered{Memory: m, del: func(key string) (bool, error) { _, err := m.Delete(key); return false, err }}
	}),
	"Delete does nothing": onSound("Delete", func(m *sound) joe.Memory {
		return tampered{Memory: m, del: func(key string) (bool, error) { _, ok, err := m.Get(key); return ok, err }}
	}),
	"Delete leaves an empty value": onSound("Delete", func(m *sound) joe.Memory {
		return tampered{Memory: m, del: func(key string) (bool, error) {
			value, ok, err := m.Get(key)
			if err == nil && ok {
				err = m.Set(key, nil)
			}
			return ok && value != nil, err
		}}
	}),

	// Slices.
	"Get returns its own slice": onSound("ReturnedSlices", func(m *sound) joe.Memory {
		return tampered{Memory: m, get: func(key string) ([]byte, bool, error) {
			value, ok := m.data[key]
			if m.closed {
				return nil, false, errClosed
			}
			return value, ok, nil
		}}
	}),
	"Set reuses the slice that Get returned": onSound("ReturnedSlices", func(m *sound) joe.Memory {
		var mu sync.Mutex // owns handedOut: two reads at once would end the process, and with it the report
		handedOut := map[string][]byte{}
		return tampered{
			Memory: m,
			get: func(key string) ([]byte, bool, error) {
				value, ok, err := m.Get(key)
				mu.Lock()
				defer mu.Unlock()
				handedOut[key] = value
				return value, ok, err
			},
			set: func(key string, value []byte) error {
				mu.Lock()
				defer mu.Unlock()
				copy(handedOut[key], value)
				return m.Set(key, value)
			},
		}
	}),
	"Keys returns its own slice": onSound("ReturnedSlices", func(m *sound) joe.Memory {
		var cache []string
		return tampered{
			Memory: m,
			set:    func(key string, value []byte) error { cache = nil; return m.Set(key, value) },
			del:    func(key string) (bool, error) { cache = nil; return m.Delete(key) },
			keys: func() (_ []string, err error) {
				if cache == nil {
					cache, err = m.Keys()
				}
				return cache, err
			},
		}
	}),

	// Writes that are refused.
	"a refused Set deletes": onSound("RefusedWrites", func(m *sound) joe.Memory {
		return tampered{Memory: m, set: func(key string, value []byte) error {
			err := m.Set(key, value)
			if errors.Is(err, errTooLarge) {
				delete(m.data, key)
			}
			return err
		}}
	}),
	"a refused Set comes up after a restart": onSound("RefusedWrites", func(m *sound) joe.Memory {
		refused := map[string][]byte{}
		return tampered{
			Memory: m,
			set: func(key string, value []byte) error {
				err := m.Set(key, value)
				if errors.Is(err, errTooLarge) {
					refused[key] = bytes.Clone(value)
				}
				return err
			},
			close: func() error {
				for key, value := range refused {
					m.data[key] = value
				}
				return m.Close()
			},
		}
	}),
	"a refused Set is acknowledged": onSound("RefusedWrites", func(m *sound) joe.Memory {
		return tampered{Memory: m, set: func(key string, value []byte) error {
			if err := m.Set(key, value); !errors.Is(err, errTooLarge) {
				return err
			}
			return nil
		}}
	}),
	"a refused Set makes the next ones fail": onSound("RefusedWrites", func(m *sound) joe.Memory {
		broken := false
		return tampered{
			Memory: m,
			set: func(key string, value []byte) error {
				err := m.Set(key, value)
				broken = broken || errors.Is(err, errTooLarge)
				return err
			},
			get: func(key string) ([]byte, bool, error) {
				if broken {
					return nil, false, errTooLarge
				}
				return m.Get(key)
			},
		}
	}),

	// Reopening.
	"the last write is lost": onSound("Reopen", func(m *sound) joe.Memory {
		last := ""
		return tampered{
			Memory: m,
			set:    func(key string, value []byte) error { last = key; return m.Set(key, value) },
			close:  func() error { delete(m.data, last); return m.Close() },
		}
	}),
	"a deleted key comes back": onSound("Reopen", func(m *sound) joe.Memory {
		deleted := map[string][]byte{}
		return tampered{
			Memory: m,
			del: func(key string) (bool, error) {
				if value, ok := m.data[key]; ok {
					deleted[key] = value
				}
				return m.Delete(key)
			},
			close: func() error {
				for key, value := range deleted {
					m.data[key] = value
				}
				return m.Close()
			},
		}
	}),
	"Close fails": onSound("Reopen", func(m *sound) joe.Memory {
		return tampered{Memory: m, close: func() error { _ = m.Close(); return errors.New("sync: input/output error") }}
	}),

	// Use after Close.
	"Set after Close is lost": onSound("Close", func(m *sound) joe.Memory {
		return tampered{Memory: m, set: func(key string, value []byte) error {
			if m.closed {
				return nil
			}
			return m.Set(key, value)
		}}
	}),
	"Set after Close fails but writes": onSound("Close", func(m *sound) joe.Memory {
		return tampered{Memory: m, set: func(key string, value []byte) error {
			err := m.Set(key, value)
			if m.closed {
				m.data[key] = value
			}
			return err
		}}
	}),
	"Get after Close finds nothing": onSound("Close", func(m *sound) joe.Memory {
		return tampered{Memory: m, get: func(key string) ([]byte, bool, error) {
			value, ok, _ := m.Get(key)
			return value, ok, nil
		}}
	}),
	"Delete after Close is lost": onSound("Close", func(m *sound) joe.Memory {
		return tampered{Memory: m, del: func(key string) (bool, error) {
			if _, ok := m.data[key]; m.closed {
				return ok, nil
			}
			return m.Delete(key)
		}}
	}),
	"Keys after Close is empty": onSound("Close", func(m *sound) joe.Memory {
		return tampered{Memory: m, keys: func() ([]string, error) {
			keys, _ := m.Keys()
			return keys, nil
		}}
	}),
	"Set after Close panics": onSound("Close", func(m *sound) joe.Memory {
		return tampered{Memory: m, set: func(key string, value []byte) error {
			if m.closed {
				panic("send on closed channel")
			}
			return m.Set(key, value)
		}}
	}),
	"Get after Close blocks": onSound("Close", func(m *sound) joe.Memory {
		return tampered{Memory: m, get: func(key string) ([]byte, bool, error) {
			if m.closed {
				select {}
			}
			return m.Get(key)
		}}
	}),
	"Close again panics": onSound("Close", func(m *sound) joe.Memory {
		return tampered{Memory: m, close: func() error {
			if m.closed {
				panic("close of closed channel")
			}
			return m.Close()
		}}
	}),

	// Concurrency, and values as bots store them.
	"one read at a time": onSound("Concurrency", func(m *sound) joe.Memory {
		var reading sync.Mutex
		met := make(chan struct{})
		meet := sync.OnceFunc(func() { close(met) })
		return tampered{Memory: m, get: func(key string) ([]byte, bool, error) {
			if !reading.TryLock() {
				meet()
				return nil, false, errors.New("busy")
			}
			defer reading.Unlock()
			select { // so that another reader comes, if there is one
			case <-met:
			case <-time.After(10 * time.Millisecond):
			}
			return m.Get(key)
		}}
	}),
	"null is missing": onSound("Storage", func(m *sound) joe.Memory {
		return tampered{Memory: m, get: func(key string) ([]byte, bool, error) {
			value, ok, err := m.Get(key)
			return value, ok && string(value) != "null", err
		}}
	}),
}
