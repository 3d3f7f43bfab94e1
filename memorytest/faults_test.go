package memorytest

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
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

// A fault is a memory that must not pass, and the subtest that has to say so.
type fault struct {
	subtest string
	open    func(t *testing.T, d *disk) joe.Memory
}

// onSound makes a fault of something that is done to a sound memory.
func onSound(subtest string, tamper func(m *sound) joe.Memory) fault {
	return fault{subtest, func(_ *testing.T, d *disk) joe.Memory { return tamper(&sound{disk: d}) }}
}

var faults = map[string]fault{
	// Those of other memories for joe.
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
	"every Set panics and keeps its lock": onSound("Concurrency", func(m *sound) joe.Memory {
		var mu sync.Mutex
		return tampered{
			Memory: m,
			set:    func(string, []byte) error { mu.Lock(); panic("assignment to entry in nil map") },
			get:    func(key string) ([]byte, bool, error) { mu.Lock(); defer mu.Unlock(); return m.Get(key) },
			close:  func() error { mu.Lock(); defer mu.Unlock(); return m.Close() },
		}
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
		return tampered{Memory: m, get: func(key string) ([]byte, bool, error) {
			if !reading.TryLock() {
				return nil, false, errors.New("busy")
			}
			defer reading.Unlock()
			for range 1000 {
				runtime.Gosched() // so that another reader comes
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

const faultVariable = "MEMORYTEST_FAULT"

// TestRunFailsOnFaults runs the suite on each faulty memory, in a process of its
// own because there it has to fail.
func TestRunFailsOnFaults(t *testing.T) {
	if fault, ok := faults[os.Getenv(faultVariable)]; ok {
		patience = 100 * time.Millisecond
		disks := disks{}
		Run(t, func(t *testing.T) joe.Memory { return fault.open(t, disks.of(t)) })
		return
	}
	executable, err := os.Executable()
	require.NoError(t, err)
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), executable, "-test.run=^TestRunFailsOnFaults$", "-test.timeout=1m")
			cmd.Env = append(os.Environ(), faultVariable+"="+name)
			output, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "the suite passes")
			require.Equal(t, 1, exit.ExitCode(), "the suite does not come to its end: %s", output)
			failed := regexp.MustCompile(`(?m)^ *--- FAIL: TestRunFailsOnFaults/(\w+)`)
			var subtests []string
			for _, match := range failed.FindAllStringSubmatch(string(output), -1) {
				subtests = append(subtests, match[1])
			}
			t.Logf("it fails in %v", subtests)
			require.Contains(t, subtests, fault.subtest, "%s", output)
		})
	}
}
