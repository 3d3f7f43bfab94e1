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

// BenchmarkSetBesideBolt compares Set through a bot's Store, with a journal, with Set of Bolt's
// memory that holds the same. Both wait for the same disk. The two take turns. A homeserver that
// limits what a bot sends leaves all keys' changes waiting in the journal; one that does not
// takes them meanwhile, which uses the disk, too.
func BenchmarkSetBesideBolt(b *testing.B) {
	for _, held := range []struct {
		what       string
		keys, size int // of each value, in bytes
	}{
		{"10 keys of 100 bytes", 10, 100},
		{"100 keys of 100 bytes", 100, 100},
		{"1000 keys of 40 bytes", 1000, 40},
		{"100 keys of 550 bytes", 100, 550}, // nearly all that fits in an event
	} {
		for _, limited := range []bool{true, false} {
			server := "all waits"
			if !limited {
				server = "delivered meanwhile"
			}
			b.Run(held.what+", "+server, func(b *testing.B) {
				front := rig.Proxy(b)
				if limited {
					front.Inject(homeserver.Fault{Match: rig.Sends, Do: homeserver.Limit(rig.SendsAtOnce, rig.SendPause)})
				}
				bot := rig.Register(b)
				conf := journalled(b, bot, bot.NewRoom(b))
				conf.Homeserver = front.URL()
				ours, theirs := storage(openWith(b, conf)), openBolt(b)
				set := func(n int) (our, their func()) {
					key, text := fmt.Sprint("key ", n%held.keys), fmt.Sprintf("%0*d", held.size-2, n)
					raw := fmt.Appendf(nil, "%q", text)
					return func() { check(b, ours.Set(key, text)) }, func() { check(b, theirs.Set(key, raw)) }
				}
				n := 0
				for range held.keys {
					our, their := set(n)
					our()
					their()
					n++
				}
				var pairs interleaved
				for b.Loop() {
					pairs.add(set(n))
					n++
				}
				b.ReportMetric(pairs.ratio(), "x-bolt")
				b.ReportMetric(0, "ns/op") // of the pairs: it says nothing
				found.compare("Set with a journal, "+held.what+", "+server+": time, to Bolt's Set on the same disk", pairs.ratio(), "1.10")
			})
		}
	}
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

// BenchmarkTenThousandSets says how many requests it takes until ten thousand Sets of a hundred
// keys in five rooms are delivered, on a homeserver that lets a bot send ten events at once and
// then one in five seconds, and how large the journal's file is after them.
func BenchmarkTenThousandSets(b *testing.B) {
	const rooms, sets = 5, 10_000
	own, front, _ := rig.Limited(b, rig.SendPause, nil)
	account, owner := own.NewAccount(b), own.NewAccount(b)
	all := make([]id.RoomID, rooms)
	for i := range all {
		all[i] = owner.NewRoom(b, account, rig.Writable)
	}
	conf := journalled(b, account, all[0])
	conf.Homeserver = front.URL()
	memory := openWith(b, conf)
	var most int
	var size int64
	for b.Loop() {
		front.Reset()
		var setting errgroup.Group
		for _, room := range all {
			handle := memory.InRoom(room.String())
			setting.Go(func() error {
				for n := range sets / rooms {
					if err := handle.Set(fmt.Sprint("key ", n%(keys/rooms)), text(n)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		check(b, setting.Wait())
		file, err := os.Stat(conf.Journal)
		check(b, err)
		size = max(size, file.Size())
		check(b, memory.Flush(b.Context()))
		most = max(most, front.Count(homeserver.Seen(homeserver.StateWrite))-rig.SendsAtOnce)
	}
	b.ReportMetric(float64(most), "puts")
	b.ReportMetric(float64(size)/1024, "KiB")
	found.compare("10,000 Sets on 100 keys of 5 rooms, where the homeserver takes one in 5 s: requests beyond the first 10 until all is delivered, at most", float64(most), "20")
	found.compare("the same: the journal's file in KiB, at most", float64(size/1024), "1024")
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
	patient := conf
	patient.Timeout = 5 * time.Minute // the first sync is of all rooms
	memory := openWith(b, patient)
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
	found.compare(fmt.Sprintf("first Get after New with a journal of %d rooms of 10 keys, and no answer from the homeserver: milliseconds", *knownRooms), ms, "100.00")
}

// BenchmarkGetBesideSets compares Get while the same journal's Sets are under way, one after the
// other, with Get while Bolt's are, which shares nothing with it but processors and disk.
func BenchmarkGetBesideSets(b *testing.B) {
	const gets = 10_000
	memory, apart := openJournalled(b), openBolt(b)
	n := keys - 1
	getBeside := func(set func(key string, value []byte) error) time.Duration {
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
				if err := set(key(n), value(n)); err != nil {
					stopped <- err
					return
				}
			}
		}()
		took := clock(func() {
			for i := range gets {
				if _, ok, err := memory.Get(key(i)); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
		close(stop)
		check(b, <-stopped)
		return took
	}
	var pairs interleaved
	for b.Loop() {
		pairs.ratios = append(pairs.ratios, float64(getBeside(memory.Set))/float64(getBeside(apart.Set)))
	}
	b.ReportMetric(pairs.ratio(), "x-apart")
	b.ReportMetric(0, "ns/op") // of the pairs: it says nothing
	found.compare("Get while Sets with the same journal are under way: time, to Get while Bolt's are", pairs.ratio(), "1.10")
}
