package benchmarks

import (
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"testing"

	"golang.org/x/sync/errgroup"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

var openKeys = flag.Int("keys", 2000, "how many keys the room of BenchmarkOpen has")

// filter asks for what a memory follows, and for nothing else.
const filter = `{
	"account_data": {"not_types": ["*"]},
	"presence": {"not_types": ["*"]},
	"room": {
		"account_data": {"not_types": ["*"]},
		"ephemeral": {"not_types": ["*"]},
		"state": {"types": ["dev.opsdroid.database"], "lazy_load_members": true},
		"timeline": {"types": ["dev.opsdroid.database"], "limit": 1, "lazy_load_members": true}
	}
}`

// BenchmarkOpen compares Open on a room with a state event for each of 2,000
// keys with one sync of that room, made with net/http alone, that brings the
// same state events. The two take turns.
func BenchmarkOpen(b *testing.B) {
	bot := rig.Register(b)
	room := bot.NewRoom(b)
	fmt.Fprintf(os.Stderr, "storing %d keys; this takes minutes\n", *openKeys)
	bare := newPutter(b, bot, room)
	var writers errgroup.Group
	writers.SetLimit(8)
	for i := range *openKeys {
		writers.Go(func() error {
			name := fmt.Sprintf("key-%d", i)
			return bare.put(name, fmt.Appendf(nil, `{%q:%s}`, name, value(i)))
		})
	}
	check(b, writers.Wait())

	conf := bot.Config(room)
	conf.SingleStateKey = matrix.PerKey
	var pairs interleaved
	for b.Loop() {
		memory := matrix.New(conf, matrix.WithLogger(rig.Silence()))
		pairs.add(
			func() { check(b, memory.Open(b.Context())) },
			func() {
				request, err := http.NewRequest(http.MethodGet, rig.Shared(b).URL()+"/_matrix/client/v3/sync?filter="+url.QueryEscape(filter), nil)
				check(b, err)
				request.Header.Set("Authorization", "Bearer "+bot.AccessToken)
				_, err = fetch(bare.client, request)
				check(b, err)
			},
		)
		b.StopTimer()
		names, err := memory.Keys()
		check(b, err)
		if len(names) != *openKeys {
			b.Fatalf("the memory has %d keys of %d", len(names), *openKeys)
		}
		check(b, memory.Close())
		b.StartTimer()
	}
	b.ReportMetric(pairs.ratio(), "x-bare-sync")
	b.ReportMetric(0, "ns/op") // of the pairs: it says nothing
	found.compare(fmt.Sprintf("Open with %d keys in the per-key layout: time, to one filtered sync with net/http alone", *openKeys), pairs.ratio(), "1.30")
}
