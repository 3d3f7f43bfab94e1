package rig

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

const (
	// Settling is how long all may take until nobody has anything to put back any more.
	Settling = 30 * time.Second
	// Lasting is for how long what has settled is seen to stay.
	Lasting = 500 * time.Millisecond
)

// Settle waits until the room and all memories hold just that, and have for some time.
func Settle(t testing.TB, want map[string]string, forTime time.Duration, all ...Proxied) {
	t.Helper()
	SettleBut(t, want, nil, forTime, all...)
}

// SettleBut is like Settle, whatever stands under some keys.
func SettleBut(t testing.TB, want map[string]string, whatever []string, forTime time.Duration, all ...Proxied) {
	t.Helper()
	compare := func(where string, want, got map[string]string) Difference {
		for _, key := range whatever {
			delete(got, key)
		}
		return Compare(where, want, got)
	}
	var differs Difference
	var since time.Time
	Eventually(Settling)(t, func() bool {
		differs = compare("the room", want, all[0].Account.Entries(t, all[0].Room))
		for i, r := range all {
			differs += compare(fmt.Sprint("memory ", i), want, Entries(t, r.Memory))
		}
		if differs != "" || since.IsZero() {
			since = time.Now()
		}
		return differs == "" && time.Since(since) >= forTime
	}, "the room and all memories hold what was acknowledged%v", &differs)
}

// A Difference is shown as it is when it is printed, not as it was when it was handed over.
type Difference string

func (d *Difference) String() string { return string(*d) }

// Compare says what is missing, too much or otherwise in one place.
func Compare(where string, want, got map[string]string) (d Difference) {
	var missing, tooMuch []string
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if value, ok := got[key]; !ok {
			missing = append(missing, key)
		} else if value != want[key] {
			d += Difference(fmt.Sprintf("\n%s has %s under %q, and not %s", where, value, key, want[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			tooMuch = append(tooMuch, key)
		}
	}
	if missing != nil {
		d += Difference(fmt.Sprintf("\n%s lacks %d of %d keys: %q", where, len(missing), len(want), missing))
	}
	if tooMuch != nil {
		d += Difference(fmt.Sprintf("\n%s has, too much: %q", where, tooMuch))
	}
	return d
}
