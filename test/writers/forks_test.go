package writers

import (
	"fmt"
	"maps"
	"testing"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// Memories that set different keys of one dictionary at the same moment take each
// other's away, and nothing says which event is the room's state then: it can be the one
// that sync brings first. Each time all has every key in the end.
func TestKeysSetAtTheSameMoment(t *testing.T) {
	for _, n := range []int{2, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			rig.WithAndWithoutJournals(t, func(t *testing.T, journals bool) {
				all := rig.CrowdWith(t, rig.Shared(t), n, matrix.OneStateKey, journals)
				want := make(map[string]string)
				for round := range 15 {
					rig.AtOnce(t, all, func(i int, r rig.Proxied) error {
						return r.Set(fmt.Sprint(i, "-", round), []byte(`1`))
					})
					for i := range all {
						want[fmt.Sprint(i, "-", round)] = `1`
					}
					rig.Settle(t, want, 0, all...)
				}
			})
		})
	}
}

// The same, where each sets key after key as fast as it can.
func TestKeysSetAsFastAsCanBe(t *testing.T) {
	rig.WithAndWithoutJournals(t, func(t *testing.T, journals bool) {
		all := rig.CrowdWith(t, rig.Shared(t), 3, "my.key", journals)
		rig.Settle(t, rig.Fill(t, all, 40), rig.Lasting, all...)
	})
}

// Memories that set the same key at the same moment agree with the room on who was the
// last.
func TestOneKeySetAtTheSameMoment(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			rig.WithAndWithoutJournals(t, func(t *testing.T, journals bool) { oneKeySetAtTheSameMoment(t, layout, journals) })
		})
	}
}

func oneKeySetAtTheSameMoment(t *testing.T, layout matrix.StateKey, journals bool) {
	all := rig.CrowdWith(t, rig.Shared(t), 2, layout, journals)
	for round := range 15 {
		may := make(map[string]bool)
		for i := range all {
			may[fmt.Sprint(100*i+round)] = true
		}
		rig.AtOnce(t, all, func(i int, r rig.Proxied) error {
			return r.Set("k", fmt.Append(nil, 100*i+round))
		})
		var differs rig.Difference
		eventually(t, func() bool {
			held := all[0].Account.Entries(t, all[0].Room)
			differs = rig.Difference(fmt.Sprintf("; the room has %v", held))
			same := true
			for i, r := range all {
				has := rig.Entries(t, r.Memory)
				differs += rig.Difference(fmt.Sprintf(", memory %d %v", i, has))
				same = same && maps.Equal(held, has)
			}
			return same && may[held["k"]]
		}, "round %d: all agree%v", round, &differs)
	}
}

// A memory that is opened right after several keys were set at the same moment has all of them: the
// homeserver may count none of their events as later than the others.
func TestOpenedAfterKeysWereSetAtTheSameMoment(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			owner := rig.Register(t)
			conf := owner.Config(owner.NewRoom(t))
			conf.SingleStateKey = layout
			setters := make([]rig.Proxied, 3)
			for i := range setters {
				setters[i] = rig.Behind(t, rig.Shared(t).Proxy(t), owner, conf)
			}
			for round := range 10 {
				rig.AtOnce(t, setters, func(i int, r rig.Proxied) error {
					return r.Set(fmt.Sprint(i), fmt.Append(nil, round))
				})
				memory := rig.Open(t, conf)
				eventually(t, func() bool {
					return maps.Equal(owner.Entries(t, setters[0].Room), rig.Entries(t, memory))
				}, "round %d: what the room holds is read", round)
			}
		})
	}
}
