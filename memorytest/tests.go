package memorytest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// testMissing looks at a memory in which nothing was ever set.
func testMissing(s *subject) {
	s.check()
	for _, key := range []string{"", "tea", "a/b"} {
		s.checkGet(key)
		s.delete(key)
	}
	s.check() // asking for a key did not make one
}

// testSet sets one key again and again.
func testSet(s *subject) {
	s.set("other", []byte(`"untouched"`))
	for _, value := range []string{`"green"`, `"green"`, `{"a":1}`, "not JSON", "", "not JSON"} {
		s.set("tea", []byte(value))
		s.check()
	}
}

// testDelete deletes keys that are there, gone, or there again.
func testDelete(s *subject) {
	s.set("tea", []byte(`"green"`))
	s.set("", []byte{})
	s.set("other", []byte(`"untouched"`))
	for _, key := range []string{"tea", ""} {
		s.delete(key)
		s.check()
		s.checkGet(key)
		s.delete(key)
		s.check()
	}
	s.set("tea", []byte(`"black"`))
	s.check()
	s.delete("tea")
	s.delete("other")
	s.check() // empty again
	s.checkGet("tea")
}

func testValues(s *subject) {
	for _, v := range values {
		s.set(v.name, v.value)
		s.checkGet(v.name)
	}
	s.check()
	s.reopen()
	s.check()
}

func testKeys(s *subject) {
	for i, key := range keys {
		s.set(key, fmt.Appendf(nil, `"value %d"`, i))
		s.checkGet(key)
	}
	s.check()
	s.reopen()
	s.check()
	for _, key := range neverSet {
		s.checkGet(key)
		s.delete(key)
	}
	// Some of those that are easily taken for one another.
	for _, key := range []string{"", "tea", "\xff", "dev.joe.key:dGVh", keys[len(keys)-1]} {
		s.delete(key)
		s.checkGet(key)
	}
	s.check()
}

// testCallersSlices changes the slices that were passed to Set.
func testCallersSlices(s *subject) {
	for _, value := range []string{`"green"`, `1.50`, "not JSON"} {
		given := append(make([]byte, 0, 64), value...)
		if err := s.memory.Set(value, given); err != nil {
			s.Errorf("Set(%s, %s) failed: %v", show(value), show(given), err)
			continue
		}
		s.model[value] = []byte(value)
		fill(given)
		s.checkGet(value)
	}
	// A memory that writes everything at each Set must not write the changes.
	s.set("other", []byte(`"tea"`))
	s.check()
	s.reopen()
	s.check()
}

// testReturnedSlices changes the slices that Get and Keys returned, and looks at
// older ones after a write.
func testReturnedSlices(s *subject) {
	originals := []string{`"green"`, `1.50`, "not JSON"}
	for _, value := range originals {
		s.set(value, []byte(value))
	}
	s.set("deleted", []byte(`"tea"`))
	for _, key := range originals {
		got, _, _ := s.memory.Get(key)
		fill(got)
		_ = append(got, "more"...)
		s.checkGet(key)
	}
	keys, _ := s.memory.Keys()
	for i := range keys {
		keys[i] = "changed"
	}
	_ = append(keys[:0], "appended")
	s.checkKeys()

	// What a caller holds stays as it is, whatever happens to the key.
	held := map[string][]byte{}
	copies := map[string][]byte{}
	for _, key := range s.keys() {
		held[key], _, _ = s.memory.Get(key)
		copies[key] = bytes.Clone(held[key])
	}
	heldKeys, _ := s.memory.Keys()
	copiedKeys := slices.Clone(heldKeys)
	s.set(`"green"`, []byte(`"black"`))
	s.set(`1.50`, []byte(`2.75`))
	s.set("not JSON", []byte("no JSON."))
	s.set("a new key", []byte(`1`))
	s.delete("deleted")
	s.check()
	s.reopen()
	s.check()
	for key, want := range copies {
		if !bytes.Equal(want, held[key]) {
			s.Errorf("a later write changed what Get(%s) had returned from %s to %s", show(key), show(want), show(held[key]))
		}
	}
	if !slices.Equal(copiedKeys, heldKeys) {
		s.Errorf("a later write changed what Keys had returned from %q to %q", copiedKeys, heldKeys)
	}
}

// testRefusedWrites offers more than many stores can hold. A write is refused
// as a whole and affects nothing else.
func testRefusedWrites(s *subject) {
	const size = 1 << 20
	big := strings.Repeat("k", size)
	s.set("kept", []byte(`"kept"`))
	s.set("other", []byte(`"untouched"`))
	for _, write := range []struct{ key, value string }{
		{"kept", strings.Repeat("\xff", size)},
		{"new", `"` + big + `"`},
		{big, `"value"`},
	} {
		if err := s.offer(write.key, []byte(write.value)); err != nil {
			s.Logf("Set(%s, %s) was refused: %v", show(write.key), show([]byte(write.value)), err)
		}
		s.checkGet(write.key)
		s.check()
		// Nothing half-written comes up with the next start.
		s.reopen()
		s.check()
	}
	s.set("other", []byte(`"changed"`))
	s.check()
	s.reopen()
	s.check()
	s.delete("new")
	s.delete(big)
	s.check()
}

// testReopen closes and opens a memory between all kinds of changes.
func testReopen(s *subject) {
	s.reopen()
	s.check() // still empty
	// Alone in a store, this key looks like a pointer or a wrapper.
	for _, key := range []string{"encrypted_val", "dev.joe.json"} {
		s.set(key, []byte(`"$x"`))
		s.check()
		s.reopen()
		s.check()
		s.delete(key)
	}
	s.set("deleted", []byte(`1`))
	s.set("overwritten", []byte(`{"a":1}`))
	s.set("kept", []byte{0xff})
	s.reopen()
	s.delete("deleted")
	s.set("overwritten", []byte(`2`))
	s.set("new", nil)
	s.check()
	s.reopen()
	s.check()
	s.checkGet("deleted")
	s.delete("deleted")
}

// testClose uses a closed memory. Each operation may fail. If it does not, it
// has to do what it says.
func testClose(s *subject) {
	for _, key := range []string{"kept", "overwritten", "deleted"} {
		s.set(key, []byte(`"before"`))
	}
	s.close()
	s.closeAgain()
	s.check()
	s.checkGet("never set")
	_ = s.offer("overwritten", []byte(`"after"`))
	_ = s.offer("new", []byte(`"after"`))
	s.delete("deleted")
	for _, key := range []string{"overwritten", "new", "deleted"} {
		s.checkGet(key)
	}
	s.checkKeys()
	s.closeAgain()
	s.reopen()
	s.check()
	s.checkGet("new")
	s.checkGet("deleted")
	s.set("kept", []byte(`"changed"`))
	s.check()
}

// closeAgain closes a closed memory. Whether that is an error is up to it.
func (s *subject) closeAgain() {
	s.Helper()
	s.call("Close", func() { _ = s.memory.Close() })
}

// fill overwrites a slice up to its capacity.
func fill(b []byte) {
	b = b[:cap(b)]
	for i := range b {
		b[i] = '#'
	}
}
