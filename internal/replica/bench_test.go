package replica

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// BenchmarkSet measures one Set and its echo, in rooms of some keys.
func BenchmarkSet(b *testing.B) {
	for _, keys := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("dictionary of %d", keys), func(b *testing.B) {
			members := make([]string, keys)
			for i := range members {
				members[i] = fmt.Sprintf(`"key %d":"value number %d"`, i, i)
			}
			benchmarkSet(b, wire.Layout{}, keys, []Event{{ID: "$first", Sender: account, Content: json.RawMessage("{" + strings.Join(members, ",") + "}")}})
		})
	}
	b.Run("an event each of 100000", func(b *testing.B) {
		layout := wire.Layout{PerKey: true}
		events := make([]Event, 100_000)
		for i := range events {
			key := fmt.Sprintf("key %d", i)
			events[i] = Event{ID: fmt.Sprintf("$first%d", i), StateKey: layout.Of(key), Sender: account,
				Content: json.RawMessage(fmt.Sprintf(`{%q:"value number %d"}`, key, i))}
		}
		benchmarkSet(b, layout, len(events), events)
	})
}

func benchmarkSet(b *testing.B, layout wire.Layout, keys int, state []Event) {
	room := New(layout, account)
	room.Expect()
	room.Load(Snapshot{State: state})
	room.Settle(false)
	stands := make(map[string]Event)
	for _, e := range state {
		stands[e.StateKey] = e
	}
	set := func(i int) {
		key := fmt.Sprintf("key %d", i%keys)
		stateKey := room.StateKey(key)
		draft, err := room.Draft(stateKey, map[string]json.RawMessage{key: json.RawMessage(fmt.Sprintf(`"changed %d"`, i))}, map[string]*Attempt{key: nil}, 60_000)
		if err != nil {
			b.Fatal(err)
		}
		id := fmt.Sprintf("$event%d", i)
		room.Commit(stateKey, draft, id)
		before := stands[stateKey]
		echo := Event{ID: id, StateKey: stateKey, Sender: account, Content: draft.Content, Replaces: before.ID, Before: before.Content, BeforeFrom: account}
		if room.Apply(Update{Timeline: []Event{echo}}) {
			b.Fatal("something is left to do: ", room.Todo())
		}
		stands[stateKey] = echo
	}
	i := 0
	for ; i < 2*maxEvents; i++ {
		set(i)
	}
	for ; b.Loop(); i++ {
		set(i)
	}
}

// BenchmarkSave measures what is kept of a room of many keys whose last events are known.
func BenchmarkSave(b *testing.B) {
	for name, layout := range map[string]wire.Layout{"a dictionary of 1000": {}, "an event each of 1000": {PerKey: true}} {
		b.Run(name, func(b *testing.B) {
			room := New(layout, account)
			room.Expect()
			room.Load(Snapshot{})
			room.Settle(false)
			for i := range 1000 + maxEvents {
				key := fmt.Sprintf("key %d", i%1000)
				draft, err := room.Draft(room.StateKey(key), map[string]json.RawMessage{key: json.RawMessage(fmt.Sprintf(`"a value of forty-odd bytes, number %09d"`, i))}, map[string]*Attempt{key: nil}, 64_000)
				if err != nil {
					b.Fatal(err)
				}
				id := fmt.Sprintf("$event%d", i)
				room.Commit(room.StateKey(key), draft, id)
				room.Apply(Update{Timeline: []Event{{ID: id, StateKey: room.StateKey(key), Sender: account, Content: draft.Content}}})
			}
			for b.Loop() {
				saved, err := room.Save()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(saved)), "bytes")
			}
		})
	}
}
