package memorytest

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/go-joe/joe"
	"go.uber.org/zap"
)

// A record is what a bot might remember.
type record struct {
	Name    string
	Count   int64
	Ratio   float64
	Seen    time.Time
	Tags    []string
	Next    *record
	Data    []byte
	ByID    map[int]string
	Any     interface{}
	Ignored string `json:"-"`
}

// typedValues are stored as handlers store them, with bot.Store.
var typedValues = []struct {
	key   string
	value interface{}
}{
	{"string", "tea is <green> & \"hot\" 🍵\x00\u2028"},
	{"largest int64", int64(math.MaxInt64)},
	{"largest uint64", uint64(math.MaxUint64)},
	{"float", 0.1},
	{"largest float", math.MaxFloat64},
	{"time", time.Date(2019, 10, 24, 1, 2, 3, 456789012, time.UTC)},
	{"nil pointer", (*record)(nil)},
	{"bytes", allBytes()},
	{"map", map[string]interface{}{"": nil, "a": []interface{}{1.5, "x", false}, "encrypted_val": "$x"}},
	{"look-alike", map[string]string{"encrypted_val": "$x"}},
	{"struct", record{
		Name:  "tea",
		Count: math.MinInt64,
		Ratio: 1e21,
		Seen:  time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC),
		Tags:  []string{"", "green"},
		Next:  &record{Name: "coffee", Data: []byte{0, 255}},
		ByID:  map[int]string{-1: "a", 7: "b"},
		Any:   "anything",
	}},
}

// testStorage uses the memory as a bot does: through a joe.Storage that encodes
// Go values as JSON.
func testStorage(s *subject) {
	store := newStorage(s.memory)
	var want []string
	for _, v := range typedValues {
		if err := store.Set(v.key, v.value); err != nil {
			s.Errorf("Set(%q, %#v) failed: %v", v.key, v.value, err)
		}
		want = append(want, v.key)
	}
	slices.Sort(want)

	check := func() {
		s.Helper()
		for _, v := range typedValues {
			got := reflect.New(reflect.TypeOf(v.value))
			ok, err := store.Get(v.key, got.Interface())
			if !ok || err != nil || !reflect.DeepEqual(v.value, got.Elem().Interface()) {
				s.Errorf("Get(%q) returned %#v, %t, %v; want %#v", v.key, got.Elem(), ok, err, v.value)
			}
		}
		if got, err := store.Keys(); err != nil || !slices.Equal(want, got) {
			s.Errorf("Keys returned %q, %v; want %q", got, err, want)
		}
	}
	check()

	target := "untouched"
	if ok, err := store.Get("missing", &target); ok || err != nil || target != "untouched" {
		s.Errorf("Get of a missing key returned %t, %v and made the target %q", ok, err, target)
	}
	if ok, err := store.Get("nil pointer", nil); !ok || err != nil {
		s.Errorf("Get without a target returned %t, %v for a key that is there", ok, err)
	}

	s.reopen()
	store.SetMemory(s.memory)
	check()
	if ok, err := store.Delete("string"); !ok || err != nil {
		s.Errorf("Delete of a key that is there returned %t, %v", ok, err)
	}
	if ok, err := store.Get("string", nil); ok || err != nil {
		s.Errorf("Get of a deleted key returned %t, %v", ok, err)
	}
}

// testConcurrency lets several handlers use one joe.Storage at once, each on
// keys of its own and all on a shared one.
func testConcurrency(s *subject) {
	const writers, readers, reads = 4, 2, 20
	store := newStorage(s.memory)
	// Errors have to be reported with Errorf: a goroutine must not end the test.
	must := func(what string, err error) {
		if err != nil {
			s.Errorf("%s failed: %v", what, err)
		}
	}
	must("Set", store.Set("shared", -1))

	var writing, reading sync.WaitGroup
	for i := range writers {
		own, gone := fmt.Sprintf("own %d", i), fmt.Sprintf("gone %d", i)
		s.model[own] = fmt.Appendf(nil, "%d", i)
		writing.Go(func() {
			must("Set", store.Set(gone, i))
			must("Set", store.Set("shared", i))
			must("Set", store.Set(own, i))
			ok, err := store.Delete(gone)
			must("Delete", err)
			if err == nil && !ok {
				s.Errorf("Delete(%q) said false, want true", gone)
			}
			var got int
			ok, err = store.Get(own, &got)
			must("Get", err)
			if err == nil && (!ok || got != i) {
				s.Errorf("Get(%q) returned %d, %t right after it was set to %d", own, got, ok, i)
			}
		})
	}
	done := make(chan struct{})
	for range readers {
		reading.Go(func() {
			for n := 1; ; n++ {
				var shared int
				ok, err := store.Get("shared", &shared)
				must("Get", err)
				if err == nil && (!ok || shared < -1 || shared >= writers) {
					s.Errorf(`Get("shared") returned %d, %t, which nobody set`, shared, ok)
				}
				_, err = store.Keys()
				must("Keys", err)
				select {
				case <-done:
					if n >= reads {
						return
					}
				default:
				}
			}
		})
	}
	writing.Wait()
	close(done)
	reading.Wait()

	var shared int
	ok, err := store.Get("shared", &shared)
	must("Get", err)
	if !ok || shared < 0 || shared >= writers {
		s.Errorf(`Get("shared") returned %d, %t, which is not the last write of anybody`, shared, ok)
	}
	s.model["shared"] = fmt.Appendf(nil, "%d", shared)
	s.check()
	s.reopen()
	s.check()
}

func newStorage(memory joe.Memory) *joe.Storage {
	store := joe.NewStorage(zap.NewNop())
	store.SetMemory(memory)
	return store
}
