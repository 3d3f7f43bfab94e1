package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A mortal is a bot with a journal that makes random changes in several rooms, in a process
// of its own, until it is killed. It prints what it remembers when it starts, as JSON, and
// then a line for each change that was acknowledged: its number, and what a Delete said.
type mortal struct {
	Conf  bare
	Rooms []id.RoomID // of which the first is the default room
	Seed  uint64
	Life  int // how many there were before it
}

// bare is a Config that JSON shows whole.
type bare matrix.Config

func init() { rig.Victim(mortal.run) }

// changesOfALife is more than a mortal comes to make.
const changesOfALife = 1_000_000

// A change is what a mortal does.
type change struct {
	room  id.RoomID
	key   string
	value int  // no change before, in any life, had one as great
	gone  bool // it deletes the key
}

var mortalKeys = []string{"a", "b", "c", "d"}

// change returns a mortal's change of a number, from 1 on.
func (m mortal) change(n int) change {
	random := rand.New(rand.NewPCG(m.Seed, uint64(m.Life*changesOfALife+n)))
	return change{
		room:  m.Rooms[random.IntN(len(m.Rooms))],
		key:   mortalKeys[random.IntN(len(mortalKeys))],
		value: m.Life*changesOfALife + n,
		gone:  random.IntN(4) == 0,
	}
}

// text is what stands in a room for a change.
func (c change) text() string {
	if c.gone {
		return rig.Absent
	}
	return fmt.Sprint(c.value)
}

func (m mortal) run() error {
	memory := matrix.New(matrix.Config(m.Conf), matrix.WithLogger(rig.Silence()))
	if err := memory.Open(context.Background()); err != nil {
		return err
	}
	store := joe.NewStorage(zap.NewNop())
	store.SetMemory(memory)
	remembered := make(map[id.RoomID]map[string]string)
	for _, room := range m.Rooms {
		held, err := holdingIn(memory.InRoom(room.String()))
		if err != nil {
			return err
		}
		remembered[room] = held
	}
	text, err := json.Marshal(remembered)
	if err != nil {
		return err
	}
	fmt.Println(string(text))
	for n := 1; ; n++ {
		c := m.change(n)
		was, err := m.make(c, memory, store)
		if err != nil {
			return fmt.Errorf("change %d: %w", n, err)
		}
		fmt.Println(n, was)
	}
}

// make makes a change: in the default room as a handler does.
func (m mortal) make(c change, memory *matrix.Memory, store *joe.Storage) (was bool, err error) {
	room := memory.InRoom(c.room.String())
	switch home := c.room == m.Rooms[0]; {
	case home && c.gone:
		return store.Delete(c.key)
	case home:
		return false, store.Set(c.key, c.value)
	case c.gone:
		return room.Delete(c.key)
	}
	return false, room.Set(c.key, c.value)
}

// holdingIn returns all that a room's memory holds.
func holdingIn(room *matrix.Room) (map[string]string, error) {
	keys, err := room.Keys()
	held := make(map[string]string)
	for _, key := range keys {
		var value json.RawMessage
		if ok, err := room.Get(key, &value); err != nil {
			return nil, err
		} else if ok {
			held[key] = string(value)
		}
	}
	return held, err
}

// A bot with a journal is killed two hundred times, at random moments of its start and of its
// changes, and starts again on the same file. Each start remembers what was acknowledged, and
// in the end all of it is in the rooms, each key as it was changed last; and whoever looks
// at the rooms meanwhile never sees a value go back, nor one that was deleted come again.
func TestKilledWithAJournal(t *testing.T) {
	t.Parallel()
	const kills = 200
	own := rig.Stock(t)
	var killed atomic.Int32
	t.Cleanup(func() { require.True(t, t.Failed() || killed.Load() >= kills, "%d kills", killed.Load()) })
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outlived(t, own, layout, (kills+2)/3, &killed)
		})
	}
}

func outlived(t *testing.T, own rig.Server, layout matrix.StateKey, kills int, killed *atomic.Int32) {
	// Whoever makes the rooms sends much, and so it is not the bot.
	bot, owner := own.NewAccount(t), own.NewAccount(t)
	m := mortal{Seed: rand.Uint64()}
	for range 3 {
		m.Rooms = append(m.Rooms, owner.NewRoom(t, bot, rig.Writable))
	}
	front := own.Proxy(t)
	front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Finish()})
	conf := rig.Journalled(t, front, bot, m.Rooms[0], layout)
	for i, room := range m.Rooms[1:] {
		conf.Rooms[fmt.Sprint("room ", i)] = room.String()
	}
	m.Conf = bare(conf)
	t.Logf("the seed is %d", m.Seed)
	r := &remains{t: t, models: make(map[id.RoomID]rig.Model), witness: newWitness(owner)}
	for _, room := range m.Rooms {
		r.models[room] = make(rig.Model)
	}

	// The first start of a journal needs the homeserver, and is nothing to be killed in.
	memory := rig.Open(t, conf)
	for _, room := range m.Rooms {
		_, err := memory.InRoom(room.String()).Keys()
		require.NoError(t, err)
	}
	require.NoError(t, memory.Close())
	require.FileExists(t, conf.Journal)

	random := rand.New(rand.NewPCG(m.Seed, 0))
	for m.Life = 1; m.Life <= kills; m.Life++ {
		told, kill := rig.StartTeller(t, m)
		if random.IntN(3) > 0 { // else it may not have started yet
			eventually(t, func() bool { return strings.Contains(told.String(), "\n") }, "life %d begins: %s", m.Life, told)
		}
		if m.Life%8 == 1 { // and else it may not have come to deliver anything
			rig.Delivers(t, func() bool { return front.Count(homeserver.Seen(homeserver.StateWrite)) > 0 }, "life %d delivers", m.Life)
		}
		rig.Stopped(nil, time.Duration(random.Int64N(int64(250*time.Millisecond))))
		kill()
		killed.Add(1)
		front.Hold()() // what the homeserver had begun for it comes before the next starts
		front.Reset()
		r.bury(m, told.String())
		r.witness.look(t, m.Rooms, layout)
	}
	t.Logf("%d changes were acknowledged in %d lives, and the rooms had %d events", r.acknowledged, kills, r.witness.events)
	require.Greater(t, r.acknowledged, kills)
	require.GreaterOrEqual(t, r.witness.events, kills/8, "deliveries of those that were killed")

	memory = rig.Open(t, conf)
	rig.Flush(t, memory, 5*time.Minute)
	for _, room := range m.Rooms {
		held, err := holdingIn(memory.InRoom(room.String()))
		require.NoError(t, err)
		r.check("in the end", room, held)
		r.check("in the room", room, bot.Entries(t, room))
	}
	r.witness.look(t, m.Rooms, layout)
	require.NotZero(t, r.witness.events)
}

// remains are what is known of the bots that were killed.
type remains struct {
	t            testing.TB
	models       map[id.RoomID]rig.Model
	witness      *witness
	acknowledged int
}

// bury takes down what a life has told, after it has ended.
func (r *remains) bury(m mortal, told string) {
	r.t.Helper()
	lines := bufio.NewScanner(strings.NewReader(told))
	if !lines.Scan() {
		return // it was killed before it had started
	}
	var remembered map[id.RoomID]map[string]string
	require.NoError(r.t, json.Unmarshal(lines.Bytes(), &remembered), "life %d: %s", m.Life, lines.Text())
	for _, room := range m.Rooms {
		r.check(fmt.Sprint("at the start of life ", m.Life), room, remembered[room])
		for key := range r.models[room] { // what was open is settled by that
			r.models[room][key] = []string{remembered[room][key]}
		}
	}
	n := 0
	for lines.Scan() {
		var acknowledged int
		var was bool
		_, err := fmt.Sscanln(lines.Text(), &acknowledged, &was)
		require.NoError(r.t, err, "life %d ended by itself: %s", m.Life, lines.Text())
		n++
		require.Equal(r.t, n, acknowledged)
		c := m.change(n)
		if may := r.models[c.room][c.key]; c.gone {
			there := len(may) > 0 && may[0] != rig.Absent
			require.Equal(r.t, there, was, "life %d, change %d: Delete of %q in %s", m.Life, n, c.key, c.room)
		}
		r.models[c.room][c.key] = []string{c.text()}
		r.acknowledged++
	}
	// The next change may have been made or not.
	c := m.change(n + 1)
	if _, known := r.models[c.room][c.key]; !known {
		r.models[c.room][c.key] = []string{rig.Absent}
	}
	r.models[c.room][c.key] = append(r.models[c.room][c.key], c.text())
}

// check compares what a room holds with what may be there.
func (r *remains) check(when string, room id.RoomID, held map[string]string) {
	r.t.Helper()
	for key := range held {
		require.Contains(r.t, mortalKeys, key, "%s, in %s", when, room)
	}
	for _, key := range mortalKeys {
		require.True(r.t, r.models[room].Allows(key, held[key]), "%s, %q in %s is %q, and may be %q", when, key, room, held[key], r.models[room][key])
	}
}

// A witness syncs, and sees the values of a room come and go.
type witness struct {
	rig.Account
	since  string
	looked bool                // ever
	seen   map[string]sighting // by room and key
	events int
}

// A sighting is the greatest value of a key that was seen, and whether it is gone since.
type sighting struct {
	value int
	gone  bool
}

func newWitness(account rig.Account) *witness {
	return &witness{Account: account, seen: make(map[string]sighting)}
}

// witnessFilter leaves nothing but the memory's events, as many as the homeserver gives.
const witnessFilter = `{"presence":{"not_types":["*"]},"account_data":{"not_types":["*"]},"room":{"ephemeral":{"not_types":["*"]},` +
	`"account_data":{"not_types":["*"]},"state":{"not_types":["*"]},"timeline":{"limit":1000,"types":["dev.opsdroid.database"]}}}`

// look looks at what is new, and checks that nothing is older than what was there.
func (w *witness) look(t testing.TB, rooms []id.RoomID, layout matrix.StateKey) {
	t.Helper()
	news, err := w.FullSyncRequest(t.Context(), mautrix.ReqSync{Since: w.since, FilterID: witnessFilter})
	require.NoError(t, err)
	w.since = news.NextBatch
	for _, room := range rooms {
		joined, ok := news.Rooms.Join[room]
		if !ok {
			continue
		}
		require.False(t, w.looked && joined.Timeline.Limited, "the witness has missed something")
		for _, evt := range joined.Timeline.Events {
			w.see(t, room, evt, layout)
		}
	}
	w.looked = true
}

func (w *witness) see(t testing.TB, room id.RoomID, evt *event.Event, layout matrix.StateKey) {
	t.Helper()
	w.events++
	var content map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(evt.Content.VeryRaw, &content))
	keys := mortalKeys
	if layout == matrix.PerKey {
		require.Contains(t, keys, evt.GetStateKey())
		keys = []string{evt.GetStateKey()}
	}
	for _, key := range keys {
		name := fmt.Sprint(room, " ", key)
		before, known := w.seen[name]
		text, there := content[key]
		if !there {
			before.gone = known
			w.seen[name] = before
			continue
		}
		var value int
		require.NoError(t, json.Unmarshal(text, &value))
		require.GreaterOrEqual(t, value, before.value, "%q in %s goes back, in %s", key, room, slices.Sorted(maps.Keys(content)))
		require.False(t, before.gone && value == before.value, "%q in %s comes again, after it was deleted: %d", key, room, value)
		w.seen[name] = sighting{value: value}
	}
}
