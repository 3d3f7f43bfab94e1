package benchmarks

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"golang.org/x/sync/errgroup"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

var knownRooms = flag.Int("rooms", 1000, "how many rooms the journal of BenchmarkFirstGet knows")

// openJournalled opens a memory with a journal that holds the keys already.
func openJournalled(b *testing.B) joe.Memory {
	bot := rig.Register(b)
	room := bot.NewRoom(b)
	check(b, newPutter(b, bot, room).put("", dictionary(keys-1)))
	return openWith(b, journalled(b, bot, room))
}

// journalled returns the settings of a bot with a journal of its own.
func journalled(b *testing.B, bot rig.Account, room id.RoomID) matrix.Config {
	b.Helper()
	conf := bot.Config(room)
	conf.Journal = rig.Journal(b)
	return conf
}

func openWith(b *testing.B, conf matrix.Config) *matrix.Memory {
	b.Helper()
	memory := rig.Open(b, conf, matrix.WithLogger(rig.Silence()))
	if _, err := os.Stat(conf.Journal); err != nil {
		b.Fatal("there is no journal: ", err)
	}
	return memory
}

// BenchmarkSetBesideBolt compares Set with a journal with Set of Bolt's memory. Both wait for
// the same disk. The two take turns.
func BenchmarkSetBesideBolt(b *testing.B) {
	memory, theirs := openJournalled(b), openBolt(b)
	fill(b, theirs)
	var pairs interleaved
	n := keys - 1 // the last one that is there
	for b.Loop() {
		n++
		pairs.add(
			func() { check(b, memory.Set(key(n), value(n))) },
			func() { check(b, theirs.Set(key(n), value(n))) },
		)
	}
	b.ReportMetric(pairs.ratio(), "x-bolt")
	b.ReportMetric(0, "ns/op") // of the pairs: it says nothing
	found.compare("Set with a journal: time, to Bolt's Set on the same disk", pairs.ratio(), "2.00")
}

// BenchmarkFortyMessages says how long forty messages in a row take, each of which sets a
// key, until the last one's handler has returned, on a homeserver that lets a bot send ten
// events at once and then one in five seconds.
func BenchmarkFortyMessages(b *testing.B) {
	const messages = 40
	own, front, _ := rig.Limited(b, rig.SendPause, nil)
	account, owner := own.NewAccount(b), own.NewAccount(b)
	conf := journalled(b, account, owner.NewRoom(b, account, rig.Writable))
	conf.Homeserver = front.URL()
	bot := rig.StartBot(b, conf)
	var failed error
	bot.Respond("remember (.+) is (.+)", func(msg joe.Message) error {
		err := bot.Store.Set(msg.Matches[0], msg.Matches[1])
		if err != nil {
			failed = err
		}
		return err
	})
	var slowest time.Duration
	n := 0
	for b.Loop() {
		slowest = max(slowest, clock(func() {
			for i := range messages {
				n++
				bot.Say("anywhere", fmt.Sprintf("remember key %d is %d", i, n))
			}
		}))
		check(b, failed)
	}
	b.ReportMetric(slowest.Seconds(), "s")
	found.compare("40 messages in a row, each a Set, where the homeserver takes one in 5 s: seconds until the last one is handled, at most", slowest.Seconds(), "1.00")
}

// BenchmarkFirstGet says how long it takes from New to the first answer of Get, with a journal
// that knows many rooms of ten keys and a homeserver that does not answer.
func BenchmarkFirstGet(b *testing.B) {
	bot := rig.Register(b)
	fmt.Fprintf(os.Stderr, "making %d rooms; this takes minutes\n", *knownRooms)
	rooms := make([]id.RoomID, *knownRooms)
	var making errgroup.Group
	making.SetLimit(4)
	for i := range rooms {
		making.Go(func() error {
			content := make(map[string]int)
			for k := range 10 {
				content[key(k)] = i
			}
			room, err := bot.CreateRoom(b.Context(), &mautrix.ReqCreateRoom{Preset: "private_chat", InitialState: []*event.Event{{
				Type: rig.MemoryType, StateKey: new(string), Content: event.Content{Parsed: content},
			}}})
			if err == nil {
				rooms[i] = room.RoomID
			}
			return err
		})
	}
	check(b, making.Wait())
	conf := journalled(b, bot, rooms[0])
	memory := openWith(b, conf)
	var reading errgroup.Group
	reading.SetLimit(8)
	for _, room := range rooms {
		reading.Go(func() error { _, err := memory.InRoom(room.String()).Keys(); return err })
	}
	check(b, reading.Wait())
	check(b, memory.Close())

	front := rig.Proxy(b)
	front.Inject(homeserver.Fault{Do: homeserver.BlackHole()})
	conf.Homeserver = front.URL()
	last := len(rooms) - 1
	var total time.Duration
	for b.Loop() {
		var memory *matrix.Memory
		total += clock(func() {
			memory = matrix.New(conf, matrix.WithLogger(rig.Silence()))
			check(b, memory.Open(b.Context()))
			var value json.RawMessage
			ok, err := memory.InRoom(rooms[last].String()).Get(key(1), &value)
			check(b, err)
			if !ok || string(value) != fmt.Sprint(last) {
				b.Fatalf("%t, %s", ok, value)
			}
		})
		b.StopTimer()
		check(b, memory.Close())
		b.StartTimer()
	}
	ms := float64(total.Microseconds()) / 1000 / float64(b.N)
	b.ReportMetric(ms, "ms")
	b.ReportMetric(0, "ns/op") // of what is not asked here
	found.compare(fmt.Sprintf("first Get after New with a journal of %d rooms of 10 keys, and no answer from the homeserver: milliseconds", *knownRooms), ms, "50.00")
}

// BenchmarkGetBesideSets compares Get while a journal's Sets are under way, one after the
// other, with Get while nothing is.
func BenchmarkGetBesideSets(b *testing.B) {
	const gets = 10_000
	memory := openJournalled(b)
	get := func() {
		for i := range gets {
			if _, ok, err := memory.Get(key(i)); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	}
	var pairs interleaved
	n := keys - 1
	for b.Loop() {
		quiet := clock(get)
		stop, stopped := make(chan struct{}), make(chan error, 1)
		go func() {
			for {
				select {
				case <-stop:
					stopped <- nil
					return
				default:
				}
				n++
				if err := memory.Set(key(n), value(n)); err != nil {
					stopped <- err
					return
				}
			}
		}()
		busy := clock(get)
		close(stop)
		check(b, <-stopped)
		pairs.ratios = append(pairs.ratios, float64(busy)/float64(quiet))
	}
	b.ReportMetric(pairs.ratio(), "x-quiet")
	b.ReportMetric(0, "ns/op") // of the pairs: it says nothing
	found.compare("Get while Sets with a journal are under way: time, to Get while there are none", pairs.ratio(), "2.00")
}
