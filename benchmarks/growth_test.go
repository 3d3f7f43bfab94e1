package benchmarks

import (
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// BenchmarkGrowth says what a Set takes as the memory grows, in two layouts, without and
// with a journal, and what the same request takes that net/http makes alone.
func BenchmarkGrowth(b *testing.B) {
	for _, layout := range []struct {
		name     string
		stateKey matrix.StateKey
	}{{"dictionary", matrix.OneStateKey}, {"per-key", matrix.PerKey}} {
		b.Run("layout="+layout.name, func(b *testing.B) {
			bot := rig.Register(b)
			room := bot.NewRoom(b)
			g := &growing{layout: layout.stateKey, bot: bot, room: room, bare: newPutter(b, bot, room)}
			for _, held := range []int{10, 30, 100, 300, 1000} {
				g.grow(b, held)
				for _, by := range []string{"request", "Set", "Set-with-journal"} {
					b.Run(fmt.Sprintf("by=%s/keys=%d", by, held), func(b *testing.B) { g.set(b, by) })
				}
			}
		})
	}
}

// growing is a room with more and more keys.
type growing struct {
	layout matrix.StateKey
	bot    rig.Account
	room   id.RoomID
	bare   putter
	held   int // keys
	last   int // value that was set, of name(last)
}

func (g *growing) name(n int) string { return fmt.Sprint("key-", n%g.held) }

func growingValue(n int) []byte { return fmt.Appendf(nil, `"%038d"`, n) } // 1000 of them fit in an event

// grow makes it that many keys.
func (g *growing) grow(b *testing.B, held int) {
	had := g.held
	g.held, g.last = held, g.last-g.last%held+2*held-1
	if g.layout != matrix.PerKey {
		return // each request writes all of them
	}
	var filling errgroup.Group
	filling.SetLimit(8)
	for n := had; n < held; n++ {
		filling.Go(func() error { return g.request(n) })
	}
	check(b, filling.Wait())
}

// request makes the request that Set of name(n) makes, of a memory in which those before it were set.
func (g *growing) request(n int) error {
	if g.layout == matrix.PerKey {
		return g.bare.put(g.name(n), fmt.Appendf(nil, `{%q:%s}`, g.name(n), growingValue(n)))
	}
	content := []byte{'{'}
	for i := n - g.held + 1; i <= n; i++ {
		content = fmt.Appendf(content, `%q:%s,`, g.name(i), growingValue(i))
	}
	content[len(content)-1] = '}'
	return g.bare.put("", content)
}

// set runs the benchmark of one way to set.
func (g *growing) set(b *testing.B, by string) {
	check(b, g.request(g.last))
	set := g.request
	if by != "request" {
		conf := g.bot.Config(g.room)
		if by == "Set-with-journal" {
			conf = journalled(b, g.bot, g.room)
		}
		conf.SingleStateKey = g.layout
		memory := rig.Open(b, conf, matrix.WithLogger(rig.Silence()))
		names, err := memory.Keys()
		check(b, err)
		if len(names) != g.held {
			b.Fatalf("the memory has %d keys of %d", len(names), g.held)
		}
		set = func(n int) error { return memory.Set(g.name(n), growingValue(n)) }
	}
	for b.Loop() {
		g.last++
		check(b, set(g.last))
	}
}
