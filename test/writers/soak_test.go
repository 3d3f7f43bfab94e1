package writers

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

var (
	soakTime = flag.Duration("soak", 12*time.Second, "how long TestSoak writes through faults, for each layout")
	soakSeed = flag.Uint64("soakseed", 0, "what TestSoak's choices begin with; 0: anything")
)

// TestSoak lets two memories and a program as opsdroid write for some time, each on an
// account of its own, while whatever can go wrong goes wrong: answers that are lost,
// late, doubled or not the homeserver's, rate limits, lost syncs, refused sync tokens, a
// homeserver that is killed, memories that are closed and opened again. Then all faults
// end, and nothing that was acknowledged to a memory may be lost: under a key that
// one writer has stands what it set last, under one that several share what one of them
// set last, and all agree. With journals, no change fails either. For 20 minutes with each
// layout, with and without them:
//
//	go test ./test -run TestSoak -v -timeout 120m -soak 20m
//
// A change of the program as opsdroid may be lost where it wrote at the very moment that
// a memory did. These are counted, and are no failure.
func TestSoak(t *testing.T) {
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("go test ./test -run TestSoak -soakseed %d", seed)
	for _, name := range []string{"single", "perkey"} {
		t.Run(name, func(t *testing.T) { newSoak(t, rig.Layouts[name], seed, false).run() })
		t.Run(name+", journals", func(t *testing.T) { newSoak(t, rig.Layouts[name], seed, true).run() })
	}
}

func (s *soak) run() {
	t := s.t
	begin := time.Now()
	s.write(*soakTime)
	wrote := time.Since(begin)
	begin = time.Now()
	problems := s.settled(time.Minute)
	t.Logf("%v of writing, then %v until all agreed, or a minute\n%s",
		wrote.Round(time.Second), time.Since(begin).Round(100*time.Millisecond), s.figures())
	if problems != "" {
		s.tell()
	}
	require.Empty(t, problems)
	s.rests()
}

// A soak is one room, and all who write in it.
type soak struct {
	t        testing.TB
	seed     uint64
	server   rig.Server
	fronts   []*homeserver.Proxy // of all who write
	owner    rig.Proxied         // of the room, who only looks at it, and has no memory
	layout   matrix.StateKey
	journals bool // the memories have journals
	subjects []*subject
	ledgers  []*ledger // of the memories' writers
	theirs   *ledger   // of the program as opsdroid
	other    rig.Opsdroid
	chaos    *chaos
	sharing  []string // the keys that all write
}

// A subject is a memory that is closed and opened again now and then.
type subject struct {
	conf  matrix.Config
	front *homeserver.Proxy

	mu     sync.RWMutex // owns what follows
	memory *matrix.Memory
	opened int
}

func (m *subject) now() (memory *matrix.Memory, opened int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.memory, m.opened
}

func newSoak(t testing.TB, layout matrix.StateKey, seed uint64, journals bool) *soak {
	t.Helper()
	own := rig.Own(t)
	s := &soak{t: t, seed: seed, server: own, layout: layout, journals: journals, sharing: []string{"shared 1", "shared 2", "shared 3"}}
	owner, confs := rig.Newcomers(t, own, 3, layout)
	s.owner = rig.Proxied{Account: owner, Room: id.RoomID(confs[0].Rooms["main"])}
	s.theirs = newLedger("opsdroid")
	s.other = rig.NewOpsdroid(t, own, s.owner, layout)
	front := own.Proxy(t) // in which nothing goes wrong
	s.other.HomeserverURL, _ = url.Parse(front.URL())
	s.chaos = newChaos(s.random(0), layout)
	for i, conf := range confs[1:] {
		m := &subject{conf: conf, front: own.Proxy(t)}
		m.conf.Homeserver, m.conf.Timeout = m.front.URL(), 9*time.Second
		if journals {
			m.conf.Journal = rig.Journal(t)
		}
		require.NoError(t, m.open(t))
		if journals {
			require.FileExists(t, m.conf.Journal)
		}
		s.subjects = append(s.subjects, m)
		s.chaos.fronts = append(s.chaos.fronts, m.front)
		for w := range 2 { // which meet in the same memory
			s.ledgers = append(s.ledgers, newLedger(fmt.Sprintf("%d%c", i, 'a'+w)))
		}
	}
	s.fronts = append(slices.Clone(s.chaos.fronts), front)

	// What a program as opsdroid has read before it says when keys were changed takes away what came between.
	l, memory, value := s.ledgers[0], s.subjects[0].memory, `"first"`
	l.note(l.keys[0], value, memory.Set(l.keys[0], []byte(value)))
	require.NoError(t, l.failure)
	if journals {
		rig.Flush(t, memory, rig.Delivering)
	}
	return s
}

// random returns a source of choices: the same for the same number, if the seed is.
func (s *soak) random(n uint64) *rand.Rand { return rand.New(rand.NewPCG(s.seed, n)) }

// write lets all write, and go wrong, for some time.
func (s *soak) write(d time.Duration) {
	stop := make(chan struct{})
	var writing sync.WaitGroup
	for i, l := range s.ledgers {
		writing.Go(func() { s.remember(s.subjects[i/2], l, s.random(uint64(10+i)), stop) })
	}
	writing.Go(func() { s.play(s.random(2), stop) })
	writing.Go(func() { s.chaos.run(stop) })
	writing.Go(func() { s.disrupt(d, stop) })
	time.AfterFunc(d, func() { close(stop) })
	writing.Wait()
	s.chaos.end(s.t)
}

// disrupt kills the homeserver and closes memories, in turn.
func (s *soak) disrupt(d time.Duration, stop <-chan struct{}) {
	for n := 0; !rig.Stopped(stop, min(d/4, 10*time.Second)); n++ {
		what, err := "a memory is closed and opened", error(nil)
		if n%3 == 1 {
			what, err = "the homeserver is killed", s.server.Kill(s.fronts...)
			if err == nil {
				err = s.server.Restart(context.Background())
			}
		} else {
			err = s.subjects[n/2%2].reopen(s.t, stop)
		}
		if err != nil {
			s.t.Errorf("%s: %v", what, err)
		}
		s.chaos.count(what)
	}
}

// open opens a new memory in the place of the one there was.
func (m *subject) open(t testing.TB) error {
	memory := matrix.New(m.conf, matrix.WithLogger(rig.Warnings(t)))
	if err := memory.Open(t.Context()); err != nil {
		return err
	}
	t.Cleanup(func() { require.NoError(t, memory.Close()) })
	m.mu.Lock()
	defer m.mu.Unlock()
	m.memory = memory
	m.opened++
	return nil
}

// reopen closes the memory and opens another, which may take several attempts.
func (m *subject) reopen(t testing.TB, stop <-chan struct{}) error {
	memory, _ := m.now()
	if err := memory.Close(); err != nil {
		return err
	}
	for {
		err := m.open(t)
		if err == nil || rig.Stopped(stop, 100*time.Millisecond) { // then without faults, if it is not open yet
			return err
		}
	}
}

// settled waits until there are no problems, and have been none for a second. It
// returns those that are left.
func (s *soak) settled(bound time.Duration) (problems string) {
	var since time.Time
	for start := time.Now(); time.Since(start) < bound; time.Sleep(50 * time.Millisecond) {
		if problems = s.problems(); problems != "" || since.IsZero() {
			since = time.Now()
		} else if time.Since(since) > time.Second {
			return ""
		}
	}
	return problems
}

// problems says what is lost, and who does not agree.
func (s *soak) problems() string {
	var all []string
	room := s.owner.Account.Entries(s.t, s.owner.Room)
	for i, m := range s.subjects {
		memory, _ := m.now()
		held, err := holding(memory)
		if err != nil {
			all = append(all, fmt.Sprintf("memory %d: %v", i, err))
		} else if d := rig.Compare(fmt.Sprint("memory ", i), room, held); d != "" {
			all = append(all, "the room is not what a memory holds:"+string(d))
		}
		if left := memory.Pending(); left.Changes > 0 {
			all = append(all, fmt.Sprintf("memory %d has not delivered %d changes, of which %d are refused", i, left.Changes, left.Refused))
		}
	}
	for _, l := range s.ledgers {
		for _, key := range l.keys {
			if !l.model.Allows(key, room[key]) {
				all = append(all, fmt.Sprintf("lost: %q is %q, and may be %q", key, room[key], l.model[key]))
			}
		}
		if len(l.wrong) > 0 {
			all = append(all, fmt.Sprintf("%d reads of what was just set were wrong, such as %s", len(l.wrong), l.wrong[0]))
		}
		if s.journals && l.failure != nil {
			all = append(all, fmt.Sprintf("a change of %s failed: %v", l.name, l.failure))
		}
	}
	for _, key := range s.sharing {
		if may, ok := s.lastOf(key); !ok(room[key]) {
			all = append(all, fmt.Sprintf("lost: %q, which all write, is %q, and may be %q", key, room[key], may))
		}
	}
	known := slices.Concat(s.sharing, s.theirs.keys)
	for _, l := range s.ledgers {
		known = append(known, l.keys...)
	}
	for key := range room {
		if !slices.Contains(known, key) {
			all = append(all, fmt.Sprintf("nobody has written %q", key))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// holding returns all that a memory holds.
func holding(memory *matrix.Memory) (map[string]string, error) {
	keys, err := memory.Keys()
	held := make(map[string]string)
	for _, key := range keys {
		value, ok, readErr := memory.Get(key)
		err = errors.Join(err, readErr)
		if ok {
			held[key] = string(value)
		}
	}
	return held, err
}

// lastOf returns what may stand under a key that all write: what one of them changed it
// to last. What the program as opsdroid wrote before its last change may stand too, as
// that one may be lost.
func (s *soak) lastOf(key string) (may []string, ok func(string) bool) {
	for _, l := range append(s.ledgers, s.theirs) {
		may = append(may, l.model[key]...)
	}
	return may, func(value string) bool {
		return len(may) == 0 && value == rig.Absent || slices.Contains(may, value) || slices.Contains(s.theirs.former[key], value)
	}
}

// tell logs what stands in the room, and all of the memory's events, the latest first.
func (s *soak) tell() {
	all, err := s.owner.State(s.t.Context(), s.owner.Room)
	require.NoError(s.t, err)
	for stateKey, evt := range all[rig.MemoryType] {
		s.t.Logf("under %q stands %s by %s: %s", stateKey, evt.ID, evt.Sender, evt.Content.VeryRaw)
	}
	filter := &mautrix.FilterPart{Types: []event.Type{rig.MemoryType}}
	for from, page := "", (*mautrix.RespMessages)(nil); page == nil || len(page.Chunk) > 0 && from != ""; from = page.End {
		page, err = s.owner.Messages(s.t.Context(), s.owner.Room, from, "", mautrix.DirectionBackward, filter, 100)
		require.NoError(s.t, err)
		for _, evt := range page.Chunk {
			s.t.Logf("%s under %q by %s at %d, in place of %s: %s", evt.ID, evt.GetStateKey(), evt.Sender, evt.Timestamp, evt.Unsigned.ReplacesState, evt.Content.VeryRaw)
		}
	}
}

// rests checks that nobody writes any more, but for a memory that is just making sure that
// what it has written stands: what a killed homeserver had lost, others may have put back.
func (s *soak) rests() {
	before, since := s.puts(), time.Now()
	rig.Eventually(rig.Settling)(s.t, func() bool {
		if now := s.puts(); now != before {
			before, since = now, time.Now()
		}
		return time.Since(since) > 2*time.Second
	}, "writes although all is settled")
}

// puts returns how many state events the memories have sent.
func (s *soak) puts() (sent int) {
	for _, m := range s.subjects {
		sent += m.front.Count(homeserver.Seen(homeserver.StateWrite))
	}
	return sent
}

// figures tells what has happened.
func (s *soak) figures() string {
	var text strings.Builder
	var total ledger
	for _, l := range s.ledgers {
		total.acknowledged, total.failed, total.unknown = total.acknowledged+l.acknowledged, total.failed+l.failed, total.unknown+l.unknown
	}
	room := s.owner.Account.Entries(s.t, s.owner.Room)
	taken := 0
	for _, key := range slices.Concat(s.theirs.keys, s.sharing) {
		if slices.Contains(s.theirs.former[key], room[key]) && !s.theirs.model.Allows(key, room[key]) {
			taken++
		}
	}
	fmt.Fprintf(&text, "%6d changes acknowledged to the memories\n%6d failed\n%6d of unknown outcome\n%6d PUTs of the memories\n",
		total.acknowledged, total.failed, total.unknown, s.puts())
	fmt.Fprintf(&text, "%6d changes of the program as opsdroid, %d failed, %d of its last ones lost\n",
		s.theirs.acknowledged, s.theirs.failed+s.theirs.unknown, taken)
	happened := s.chaos.happened()
	for _, what := range slices.Sorted(maps.Keys(happened)) {
		fmt.Fprintf(&text, "%6d × %s\n", happened[what], what)
	}
	return text.String()
}

// remember lets a memory change keys of the writer's own, and some that all share.
func (s *soak) remember(m *subject, l *ledger, random *rand.Rand, stop <-chan struct{}) {
	for n := 0; !rig.Stopped(stop, time.Duration(random.Int64N(int64(80*time.Millisecond)))); n++ {
		key, value := l.keys[random.IntN(len(l.keys))], fmt.Sprintf(`"%s %d"`, l.name, n)
		shared := random.IntN(5) == 0
		if shared {
			key = s.sharing[random.IntN(len(s.sharing))]
		}
		memory, opened := m.now()
		var err error
		if random.IntN(6) == 0 {
			value = rig.Absent
			_, err = memory.Delete(key)
		} else {
			err = memory.Set(key, []byte(value))
		}
		l.note(key, value, err)
		if err != nil || shared || s.layout == matrix.PerKey { // where a late duplicate stands until it is put right
			continue
		}
		got, _, err := memory.Get(key)
		if _, now := m.now(); err == nil && now == opened && string(got) != value {
			l.wrong = append(l.wrong, fmt.Sprintf("%q, which was %q and not %q", key, got, value))
		}
	}
}

// play lets the program as opsdroid change its own keys, and those that all share.
func (s *soak) play(random *rand.Rand, stop <-chan struct{}) {
	for n := 0; !rig.Stopped(stop, time.Duration(random.Int64N(int64(400*time.Millisecond)))); n++ {
		l := s.theirs
		key, value := l.keys[random.IntN(len(l.keys))], fmt.Sprintf(`"%s %d"`, l.name, n)
		if random.IntN(3) == 0 {
			key = s.sharing[random.IntN(len(s.sharing))]
		}
		var err error
		if random.IntN(4) == 0 {
			value = rig.Absent
			err = s.other.Delete(s.t.Context(), key)
		} else {
			err = s.other.Put(s.t.Context(), key, value)
		}
		if err != nil { // it does not know either, and does not try again
			err = errors.Join(err, matrix.ErrUnknownOutcome)
		}
		l.note(key, value, err)
	}
}

// A ledger knows what may stand under the keys that one writer changes. Only the writer
// uses it until it has stopped.
type ledger struct {
	name   string
	keys   []string  // its own
	model  rig.Model // its last change of each key, and what it tried since without an answer
	former map[string][]string
	wrong  []string // reads of what it had just changed

	failure                       error // the last one, but for those of a closed memory
	acknowledged, failed, unknown int
}

func newLedger(name string) *ledger {
	l := &ledger{name: name, model: make(rig.Model), former: make(map[string][]string)}
	for i := range 5 {
		l.keys = append(l.keys, fmt.Sprint(name, " ", i))
	}
	return l
}

// note takes down what became of a change.
func (l *ledger) note(key, value string, err error) {
	if err != nil && !errors.Is(err, matrix.ErrClosed) {
		l.failure = err
	}
	switch {
	case err == nil:
		l.acknowledged++
		l.former[key] = append(l.former[key], l.model[key]...)
		l.model[key] = []string{value}
	case errors.Is(err, matrix.ErrUnknownOutcome):
		l.unknown++
		if _, written := l.model[key]; !written {
			l.model[key] = []string{rig.Absent}
		}
		l.model[key] = append(l.model[key], value)
	default:
		l.failed++
	}
}
