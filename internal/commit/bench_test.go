package commit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// BenchmarkSet measures what one Set and its echo cost, without any network.
func BenchmarkSet(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("dictionary of %d", n), func(b *testing.B) {
			content := make(map[string]string)
			for i := range n {
				content[fmt.Sprint("key", i)] = strings.Repeat("x", 50_000/n-20)
			}
			raw, err := json.Marshal(content)
			require.NoError(b, err)
			benchmarkSet(b, wire.Layout{}, n, []replica.Event{{ID: "$first", Sender: "@bot:x", Content: raw}})
		})
	}
	b.Run("an event for each of 100000", func(b *testing.B) {
		layout := wire.Layout{PerKey: true}
		events := make([]replica.Event, 100_000)
		for i := range events {
			key := fmt.Sprint("key", i)
			events[i] = replica.Event{ID: fmt.Sprint("$first", i), StateKey: layout.Of(key), Sender: "@bot:x", Content: json.RawMessage(fmt.Sprintf(`{%q:"x"}`, key))}
		}
		benchmarkSet(b, layout, len(events), events)
	})
}

func benchmarkSet(b *testing.B, layout wire.Layout, n int, state []replica.Event) {
	room := replica.New(layout, "@bot:x")
	room.Expect()
	room.Load(replica.Snapshot{State: state})
	room.Settle(false)
	stands := make(map[string]replica.Event)
	for _, e := range state {
		stands[e.StateKey] = e
	}
	serial := 0
	var last replica.Event
	q := commit.NewQueue(room, commit.Env{
		Put: func(_, _ context.Context, stateKey string, content json.RawMessage, _ func() error) (string, commit.Outcome, error) {
			serial++
			before := stands[stateKey]
			last = replica.Event{ID: fmt.Sprint("$", serial), StateKey: stateKey, Sender: "@bot:x", Content: content, Replaces: before.ID, Before: before.Content, BeforeFrom: before.Sender}
			stands[stateKey] = last
			return last.ID, commit.Stored, nil
		},
		Standing:  func(context.Context, string) (json.RawMessage, bool, error) { return last.Content, true, nil },
		Load:      func(context.Context) error { return nil },
		Limit:     func(string) int { return 63_000 },
		Encrypted: func() (bool, error) { return false, nil },
		Removed:   func([]string) {},
	}, time.Minute)
	defer q.Close(context.Background())
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := q.Submit(context.Background(), commit.Change{Key: fmt.Sprint("key", i%n), Value: []byte(fmt.Sprint(i))}); err != nil {
			b.Fatal(err)
		}
		room.Apply(replica.Update{Timeline: []replica.Event{last}})
	}
}
