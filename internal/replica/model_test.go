package replica

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// The model plays memories, programs as opsdroid, people and one or two homeservers at
// random, with forks, gaps of sync, restarts, lost answers, late and repeated requests and
// redactions. It checks that no acknowledged change of a memory is lost unless somebody who
// saw it, or a change that was made without having seen it, replaced it; that all memories
// agree; that what stands in the room is what they mean; and that nobody writes for ever.

var (
	modelFor  = flag.Duration("model", 0, "play the model for so long instead of a fixed number of runs")
	modelSeed = flag.Int("model.seed", -1, "play one run of the model, told step by step")
)

// A kind is a kind of history.
type kind struct {
	memories, programs int
	people             bool
	forks, repeats     float64 // shares of writes and of requests
	redactions         bool
	crashes            bool
	fresh              bool // at rest all are gone, and one that knows nothing opens the room
	window, look       int  // events of a snapshot; events that can be had of the history
	keys, steps        int
	servers, skew      int
	blind              bool // one memory joins in the middle, and can't read what was before
	forged             bool
	stale              bool // sync brings old events once more
	silent             bool // the homeserver does not say what an event replaced
	saves              bool // what is known is saved now and then, and a start begins with it
}

var plays = map[string]kind{
	"memories":                        {},
	"many memories":                   {memories: 5, steps: 60},
	"forks":                           {forks: 0.1, repeats: 0.1},
	"many keys":                       {forks: 0.1, repeats: 0.1, keys: 26, steps: 60},
	"forgotten":                       {forks: 0.1, repeats: 0.1, keys: 26, steps: 200},
	"at rest all are gone":            {forks: 0.1, repeats: 0.1, fresh: true},
	"little can be had":               {forks: 0.1, repeats: 0.1, keys: 26, steps: 60, look: 8},
	"two homeservers":                 {servers: 2, skew: 20, forks: 0.05, repeats: 0.05},
	"a program":                       {programs: 1, repeats: 0.05},
	"a program, little is had":        {programs: 1, repeats: 0.05, look: 8, steps: 60},
	"redactions":                      {redactions: true, forks: 0.05},
	"one joins late":                  {blind: true, keys: 12, forks: 0.05},
	"forged depths":                   {forged: true},
	"people":                          {people: true},
	"three programs":                  {programs: 3},
	"people and forks":                {people: true, forks: 0.05},
	"a program and forks":             {programs: 1, forks: 0.1, repeats: 0.05},
	"eight memories":                  {memories: 8, forks: 0.1, repeats: 0.1},
	"people, silent":                  {people: true, silent: true},
	"stale":                           {stale: true, forks: 0.1, repeats: 0.1},
	"stale, silent":                   {stale: true, silent: true, people: true, repeats: 0.1},
	"many keys, silent":               {silent: true, keys: 26, steps: 100, window: 3, repeats: 0.1},
	"a program and many keys, silent": {programs: 1, silent: true, keys: 26, steps: 100, window: 5},
	"a program, silent":               {programs: 1, silent: true},
	"many people, silent":             {people: true, silent: true, keys: 12, steps: 100},
	"memories, silent":                {silent: true, repeats: 0.1, steps: 60},
	"crashes":                         {crashes: true, forks: 0.1, repeats: 0.1},
}

// tolerated is how many runs of 10,000 of a play may fail: where a program that knows of
// no writes, a process that died, or a sync that brings an event from before the window of
// the last load on a homeserver that does not say what it replaced, leaves what can't be told.
var tolerated = map[string]int{
	"stale, silent":        10,
	"three programs":       9,
	"people and forks":     7,
	"at rest all are gone": 5,
	"crashes":              14,
}

func TestModel(t *testing.T) {
	for name, k := range plays {
		t.Run(name, func(t *testing.T) {
			playAll(t, 150, tolerated[name], func(seed int) *world { return newWorld(k, seed) })
		})
	}
}

// A game is one history that is played.
type game interface {
	play() (bad string)
	puts() int // at rest
	telling(tell func(string, ...any))
	describe()
}

// playAll plays many histories, of which so many of 10,000 may fail; or, if a seed is
// given, that one, told step by step.
func playAll[G game](t *testing.T, seeds, tolerated int, begin func(seed int) G) {
	if *modelSeed >= 0 {
		g := begin(*modelSeed)
		g.telling(t.Logf)
		if bad := g.play(); bad != "" {
			g.describe()
			t.Error(bad)
		}
		return
	}
	t.Parallel()
	runs, failed, most, first := 0, 0, 0, ""
	started := time.Now()
	for ; *modelFor > 0 && time.Since(started) < *modelFor || *modelFor == 0 && runs < seeds; runs++ {
		g := begin(runs)
		if bad := g.play(); bad != "" {
			if failed++; first == "" {
				first = fmt.Sprintf("-model.seed=%d: %s", runs, bad)
			}
		}
		most = max(most, g.puts())
	}
	t.Logf("%d of %d runs fail; at most %d puts at rest; %s", failed, runs, most, first)
	if failed*10_000 > tolerated*runs {
		t.Errorf("%d of %d runs fail, such as %s", failed, runs, first)
	}
}

// A change is the truth that the checks know and the rules don't.
type change struct {
	key   string
	value int     // 0: deleted
	prev  *change // what its author saw
	own   *change // what its author had tried before
	acked bool
	done  bool // stands in an event
	in    []*modelEvent
	at    *server // where it was made
	by    string
}

type modelEvent struct {
	n        int
	id       string
	content  json.RawMessage
	replaces *modelEvent
	sender   string
	redacted bool
	ts       int64
	prev     []*modelEvent
	truth    map[string]*change
	silent   bool
}

func (e *modelEvent) event() Event {
	out := Event{ID: e.id, Silent: e.silent, Sender: e.sender, Content: e.content, Time: e.ts, Redacted: e.redacted}
	if e.redacted {
		out.Content = json.RawMessage(`{}`)
	}
	if b := e.replaces; b != nil && !e.silent {
		out.Replaces, out.BeforeFrom, out.Before = b.id, b.sender, b.content
		if b.redacted {
			out.Before = json.RawMessage(`{}`)
		}
	}
	return out
}

type world struct {
	kind
	seed    int
	r       *rand.Rand
	tell    func(string, ...any)
	events  []*modelEvent
	byID    map[string]*modelEvent
	changes []*change
	byStamp map[string]*change // by key and stamp's ID
	values  int
	hs      []*server
	now     int64
	up      bool
	ms      []*memory
	atRest  int
}

type server struct {
	w    *world
	name string
	ends []*modelEvent // forward extremities
	has  []*modelEvent
	in   map[*modelEvent]bool
	skew int64
}

func newWorld(p kind, seed int) *world {
	p.memories, p.window, p.look, p.keys = max(p.memories, 0), cmpOr(p.window, 10), cmpOr(p.look, 100), cmpOr(p.keys, 3)
	p.steps, p.servers = cmpOr(p.steps, 30), cmpOr(p.servers, 1)
	w := &world{kind: p, seed: seed, r: rand.New(rand.NewSource(int64(seed))), tell: func(string, ...any) {},
		byID: map[string]*modelEvent{}, byStamp: map[string]*change{}, now: 1_700_000_000_000, up: true}
	for i := range p.servers {
		w.hs = append(w.hs, &server{w: w, in: map[*modelEvent]bool{}, skew: int64(i * p.skew)})
	}
	return w
}

func cmpOr(a, b int) int {
	if a != 0 {
		return a
	}
	return b
}

func (s *server) resolve(ends []*modelEvent) (best *modelEvent) {
	for _, e := range ends {
		if best == nil || e.ts > best.ts || e.ts == best.ts && e.id > best.id {
			best = e
		}
	}
	return best
}

func (s *server) current() *modelEvent { return s.resolve(s.ends) }

func (s *server) accept(e *modelEvent) {
	if s.in[e] {
		return
	}
	s.in[e] = true
	s.has = append(s.has, e)
	s.ends = slices.DeleteFunc(s.ends, func(o *modelEvent) bool { return slices.Contains(e.prev, o) })
	s.ends = append(s.ends, e)
}

func (s *server) put(content json.RawMessage, sender string, truth map[string]*change) *modelEvent {
	w := s.w
	prev := slices.Clone(s.ends)
	if n := len(s.has); n > 0 && w.r.Float64() < w.forks {
		if last := s.has[n-1]; last.replaces != nil {
			prev = slices.Clone(last.prev)
		}
	}
	now := s.resolve(prev)
	if now != nil && !now.redacted && wire.Equal(now.content, content) {
		return now
	}
	e := &modelEvent{n: len(w.events), id: fmt.Sprintf("$%08x", w.r.Uint32()), content: content, replaces: now, sender: sender,
		truth: truth, ts: w.now + s.skew, prev: prev, silent: w.silent}
	w.events = append(w.events, e)
	w.byID[e.id] = e
	s.accept(e)
	return e
}

// federate brings events from one homeserver to the other.
func (w *world) federate(all bool) {
	for again := true; again; {
		again = false
		for _, a := range w.hs {
			for _, b := range w.hs {
				for _, e := range a.has {
					ready := a != b && !b.in[e]
					for _, p := range e.prev {
						ready = ready && b.in[p]
					}
					if ready {
						b.accept(e)
						again = true
						if !all && w.r.Intn(2) == 0 {
							return
						}
					}
				}
			}
		}
	}
}

type memory struct {
	*Room
	name  string
	w     *world
	hs    *server
	pos   int
	blind int
	gone  bool
	tried map[string]*change
	late  []func()
	heard []func() // answers that are on their way
	puts  int
	saved []byte
	read  map[string]int // what it read when that was saved
}

const account = "@memory:x"

func (w *world) add() *memory {
	m := &memory{name: fmt.Sprintf("m%d", len(w.ms)), w: w, hs: w.hs[len(w.ms)%len(w.hs)]}
	w.ms = append(w.ms, m)
	m.start()
	return m
}

func (m *memory) start() {
	m.Room, m.tried, m.heard = New(wire.Layout{}, account), map[string]*change{}, nil
	m.random = m.w.r
	m.restore()
	m.load()
}

// load does what package room does.
func (m *memory) load() {
	m.Expect()
	m.pos = len(m.hs.has)
	var s Snapshot
	from := max(0, m.pos-m.w.window)
	for _, e := range m.hs.has[from:] {
		if e.n >= m.blind {
			s.Timeline = append(s.Timeline, e.event())
		}
	}
	if len(s.Timeline) == 0 && m.hs.current() != nil {
		s.State = append(s.State, m.hs.current().event())
	} else if len(s.Timeline) > 0 && !m.w.silent {
		if b := m.w.byID[s.Timeline[0].ID].replaces; b != nil {
			s.State = append(s.State, b.event())
		}
	}
	for i := range s.State {
		s.State[i].Replaces, s.State[i].Before = "", nil
	}
	more, _ := m.Load(s)
	if m.w.silent && from > 0 { // a page may bring once more what is known
		from = min(m.pos, from+2)
	}
	for n := 0; more && from > 0 && n < m.w.look; {
		var page []Event
		for ; from > 0 && len(page) < 5; from-- {
			if e := m.hs.has[from-1]; e.n >= m.blind {
				page = append(page, e.event())
			}
		}
		if len(page) == 0 {
			break
		}
		n += len(page)
		more = m.Earlier(page)
	}
	m.Settle(from == 0 && m.blind == 0)
	m.tasks()
}

// tasks does what the replica asks for, but for mending.
func (m *memory) tasks() {
	for n := 0; n < 100; n++ {
		todo := m.Todo()
		if len(todo) == 0 || !todo[0].Load && !todo[0].Ask {
			return
		}
		if todo[0].Load {
			m.load()
			return
		}
		m.ask()
	}
	panic("it asks for ever")
}

func (m *memory) ask() { m.asks()() }

// asks asks what stands in the room, and returns what is to be done with the answer.
func (m *memory) asks() func() {
	count := m.Count("")
	now := m.hs.current()
	var content json.RawMessage
	if now != nil {
		content = now.event().Content
	}
	return func() {
		if heard, _ := m.Answer("", content, now != nil, count, nil); !heard {
			m.Missed()
		}
	}
}

func (m *memory) sync(n int) {
	for ; n > 0 && m.pos < len(m.hs.has); n-- {
		e := m.hs.has[m.pos]
		m.pos++
		m.Apply(Update{Timeline: []Event{e.event()}})
		m.tasks()
	}
}

func (m *memory) value(key string) int {
	entry, ok, err := m.Get(key)
	if err != nil {
		panic(err)
	}
	var n int
	if ok && json.Unmarshal(entry.Raw, &n) != nil {
		panic("no number")
	}
	return n
}

func (m *memory) values() map[string]int {
	all := map[string]int{}
	for i := range m.w.keys {
		key := string(rune('a' + i))
		if v := m.value(key); v != 0 {
			all[key] = v
		}
	}
	return all
}

// truth returns the changes that the memory has seen the effect of.
func (m *memory) truth() map[string]*change {
	truth := map[string]*change{}
	doc := m.docs[""]
	if doc == nil {
		return truth
	}
	for key, k := range doc.meaning.mean() {
		if k.weakly() {
			if e := m.w.byID[k.weak[0].at.ID]; e != nil {
				truth[key] = e.truth[key]
			}
		} else if k.stamped {
			truth[key] = m.w.byStamp[key+" "+k.at.ID]
		}
	}
	return truth
}

func (m *memory) write(set map[string]int) {
	w := m.w
	if m.Behind("") {
		m.load()
	}
	truth := m.truth()
	changes := map[string]json.RawMessage{}
	var cs []*change
	for _, key := range slices.Sorted(maps.Keys(set)) {
		c := &change{key: key, value: set[key], prev: truth[key], own: m.tried[key], at: m.hs, by: m.name}
		m.tried[key] = c
		w.changes = append(w.changes, c)
		cs, truth[key] = append(cs, c), c
		changes[key] = nil
		if set[key] != 0 {
			changes[key] = json.RawMessage(fmt.Sprint(set[key]))
		}
	}
	draft, err := m.Draft("", changes, sentFirst(set), 60_000)
	if err != nil {
		panic(err)
	}
	for _, c := range cs {
		w.byStamp[c.key+" "+draft.dict.Write.ID] = c
	}
	m.puts++
	hs := m.hs
	land := func() *modelEvent {
		e := hs.put(draft.Content, account, truth)
		for _, c := range cs {
			c.done = true
			c.in = append(c.in, e)
		}
		w.tell("  %s -> %d %s", draft.Content, e.n, e.id)
		return e
	}
	for try := range 4 {
		if w.r.Float64() < w.repeats {
			m.late = append(m.late, func() { land() })
		}
		switch x := w.r.Float64(); {
		case x < 0.75:
			w.tell("%s put %v", m.name, set)
			e := land()
			for _, c := range cs {
				c.acked = true
			}
			if try > 0 {
				draft = draft.Repeated()
			}
			m.Commit("", draft, e.id)
			return
		case x < 0.85:
			w.tell("%s put %v (answer lost)", m.name, set)
			land()
		case x < 0.95:
			w.tell("%s put %v (comes late)", m.name, set)
			m.late = append(m.late, func() { land() })
			if w.crashes && w.r.Intn(2) == 0 {
				w.tell("%s dies and starts again", m.name)
				m.start()
				return
			}
		}
	}
	m.Doubt("", draft)
}

// sentFirst names keys whose changes were not sent before.
func sentFirst[V any](changes map[string]V) map[string]*Attempt {
	changed := make(map[string]*Attempt, len(changes))
	for key := range changes {
		changed[key] = nil
	}
	return changed
}

func (m *memory) mends() bool {
	for _, task := range m.Todo() {
		if task.Mend {
			m.w.tell("%s mends", m.name)
			m.write(nil)
			return true
		}
	}
	return false
}

// delivers lets requests arrive late.
func (m *memory) delivers() {
	for len(m.late) > 0 {
		f := m.late[0]
		m.late = m.late[1:]
		m.w.tell("late from %s", m.name)
		f()
	}
}

type program struct {
	name string
	read *modelEvent
	hs   *server
}

// foreign is what somebody writes who read an event and knows nothing of writes.
func (w *world) foreign(hs *server, name, account string, read *modelEvent, carry bool, key string) {
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(read.content, &members); err != nil {
		panic(err)
	}
	if !carry {
		delete(members, "dev.joe.write")
	}
	w.values++
	value := w.values
	if _, ok := members[key]; ok && w.r.Intn(3) == 0 {
		value = 0
		delete(members, key)
	} else {
		members[key] = json.RawMessage(fmt.Sprint(value))
	}
	content, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	truth := maps.Clone(read.truth)
	if truth == nil {
		truth = make(map[string]*change)
	}
	c := &change{key: key, value: value, prev: truth[key], acked: true, done: true, at: hs, by: name}
	w.changes = append(w.changes, c)
	truth[key] = c
	e := hs.put(content, account, truth)
	c.in = append(c.in, e)
	w.byStamp[key+" "+e.id] = c
	w.tell("%s %s=%d upon %d -> %d %s: %s", name, key, value, read.n, e.n, e.id, content)
}

func (w *world) redact() {
	e := w.hs[0].current()
	if e == nil || e.redacted {
		return
	}
	e.redacted = true
	w.tell("%d is redacted", e.n)
	for _, c := range w.changes { // what it alone said is gone, on purpose
		if len(c.in) > 0 && !slices.ContainsFunc(c.in, func(e *modelEvent) bool { return !e.redacted }) {
			c.acked, c.done = false, false
		}
	}
	for _, m := range w.ms {
		m.Redacted(e.id)
		m.tasks()
	}
}

func (w *world) forge(key string) {
	now := w.hs[0].current()
	if now == nil || now.redacted {
		return
	}
	dict, err := wire.Layout{}.Decode("", now.content)
	if err != nil {
		panic(err)
	}
	w.values++
	raw := json.RawMessage(fmt.Sprint(w.values))
	_, content := dict.With(map[string]json.RawMessage{key: raw}).Sign(wire.Write{Depth: 1 << 50, Keys: map[string]wire.Stamp{key: {Depth: 1 << 50}}}, [4]byte{1}, "@forger:x")
	truth := maps.Clone(now.truth)
	c := &change{key: key, value: w.values, prev: truth[key], acked: true, done: true, by: "forger"}
	w.changes = append(w.changes, c)
	truth[key] = c
	e := w.hs[0].put(content, "@forger:x", truth)
	c.in = append(c.in, e)
	w.byStamp[key+" "+e.id] = c
}

func (w *world) puts() int                         { return w.atRest }
func (w *world) telling(tell func(string, ...any)) { w.tell = tell }

func (w *world) play() (bad string) {
	r := w.r
	if w.stale { // the room has something already
		w.foreign(w.hs[0], "person", "@person:x", &modelEvent{content: json.RawMessage(`{}`)}, false, "a")
	}
	n := w.memories
	if n == 0 {
		n = 1 + r.Intn(4)
	}
	for range n {
		w.add()
	}
	if w.blind && len(w.ms) > 1 {
		w.ms[0].gone = true
	}
	var ps []*program
	for i := range w.programs {
		ps = append(ps, &program{name: fmt.Sprintf("o%d", i), hs: w.hs[i%len(w.hs)]})
	}
	total := 5 + r.Intn(w.steps)
	for step := range total {
		if w.ms[0].gone && step > total/2 && w.ms[0].hs.current() != nil {
			w.ms[0].gone, w.ms[0].blind = false, len(w.events)
			w.tell("m0 joins, blind before %d", len(w.events))
			w.ms[0].start()
		}
		w.now++
		if len(w.hs) > 1 {
			if r.Intn(12) == 0 {
				w.up = !w.up
			}
			if w.up && r.Intn(2) == 0 {
				w.federate(false)
			}
		}
		m := w.ms[r.Intn(len(w.ms))]
		if m.gone {
			continue
		}
		if w.saves && r.Intn(4) == 0 {
			m.save()
		}
		if r.Intn(8) == 0 {
			m.heard = append(m.heard, m.asks())
		} else if len(m.heard) > 0 && r.Intn(4) == 0 {
			m.heard[0]()
			m.heard = m.heard[1:]
		}
		if w.stale && m.pos > 0 && r.Intn(8) == 0 {
			m.Apply(Update{Timeline: []Event{m.hs.has[r.Intn(m.pos)].event()}})
			m.tasks()
		}
		key := string(rune('a' + r.Intn(w.keys)))
		switch x := r.Intn(100); {
		case x < 40:
			value := nextValue(&w.values, r)
			if m.value(key) != value {
				m.write(map[string]int{key: value})
			}
		case x < 60:
			m.sync(1 + r.Intn(3))
		case x < 65:
			w.tell("%s gap", m.name)
			twin := m.twin()
			m.Missed()
			m.load()
			if bad := m.differs(twin, ""); bad != "" {
				return bad
			}
		case x < 69:
			w.tell("%s restarts", m.name)
			m.start()
		case x < 75:
			m.mends()
		case x < 80:
			if len(m.late) > 0 {
				i := r.Intn(len(m.late))
				f := m.late[i]
				m.late = slices.Delete(m.late, i, i+1)
				w.tell("late from %s", m.name)
				f()
			}
		case x < 82 && w.redactions:
			w.redact()
		case x < 82 && w.forged:
			w.forge(key)
		case w.people && x >= 97:
			if now := w.hs[0].current(); now != nil && !now.redacted {
				w.foreign(w.hs[0], "person", "@person:x", now, false, key)
			}
		case len(ps) > 0:
			p := ps[r.Intn(len(ps))]
			if p.read == nil {
				if now := p.hs.current(); now != nil && !now.redacted && wire.Authored(now.content, now.sender) {
					p.read = now
					w.tell("%s reads %d", p.name, now.n)
				}
			} else {
				w.foreign(p.hs, p.name, "@opsdroid:x", p.read, true, key)
				p.read = nil
			}
		}
	}
	for _, m := range w.ms {
		m.delivers()
	}
	if w.fresh {
		w.ms = nil
		w.add()
	}
	return w.rest()
}

// rest lets all come to rest, and checks what they ended with.
func (w *world) rest() (bad string) {
	w.ms = slices.DeleteFunc(w.ms, func(m *memory) bool { return m.gone })
	for _, m := range w.ms {
		m.puts = 0
	}
	for round := 0; ; round++ {
		moved := false
		w.federate(true)
		for _, i := range w.r.Perm(len(w.ms)) {
			m := w.ms[i]
			w.now++
			w.federate(true)
			m.sync(1 << 20)
			m.ask()
			m.tasks()
			moved = m.mends() || moved
			m.delivers()
		}
		if !moved {
			break
		}
		if round > 60 {
			return "writes for ever"
		}
	}
	w.federate(true)
	for _, m := range w.ms {
		w.atRest += m.puts
		m.sync(1 << 20)
		if a, b := w.ms[0].values(), m.values(); !maps.Equal(a, b) {
			return fmt.Sprintf("%s means %v, %s %v", w.ms[0].name, a, m.name, b)
		}
	}
	if len(w.ms) == 0 {
		return ""
	}
	final := w.ms[0].values()
	if now := w.ms[0].hs.current(); now != nil {
		dict, err := wire.Layout{}.Decode("", now.event().Content)
		stands := map[string]int{}
		for key, entry := range dict.Entries {
			var n int
			_ = json.Unmarshal(entry.Raw, &n)
			stands[key] = n
		}
		if err != nil || !maps.Equal(stands, final) {
			return fmt.Sprintf("%v stands in the room, and %v is what it means", stands, final)
		}
	}
	for i := range w.keys {
		key := string(rune('a' + i))
		if may := w.may(key); len(may) > 0 && !slices.Contains(may, final[key]) {
			return fmt.Sprintf("%s is %d, may be %v", key, final[key], may)
		}
	}
	return ""
}

// may returns what a key may hold: whatever no acknowledged change of somebody who saw it
// replaced. It is nil if no change of a memory is among that.
func (w *world) may(key string) (may []int) {
	beaten := map[*change]bool{}
	for _, c := range w.changes {
		if c.acked && c.key == key {
			for todo := []*change{c.prev, c.own}; len(todo) > 0; todo = todo[1:] {
				if p := todo[0]; p != nil && !beaten[p] {
					beaten[p] = true
					todo = append(todo, p.prev, p.own)
				}
			}
		}
	}
	ours := false
	for _, c := range w.changes {
		if c.key == key && c.done && !beaten[c] {
			may = append(may, c.value)
			ours = ours || c.by[0] == 'm' && c.acked
		}
	}
	if !ours {
		return nil
	}
	return may
}

func (w *world) describe() {
	for _, e := range w.events {
		replaces := -1
		if e.replaces != nil {
			replaces = e.replaces.n
		}
		w.tell("%d %s by %s replaces %d: %s redacted=%v", e.n, e.id, e.sender, replaces, e.content, e.redacted)
	}
	for _, s := range w.hs {
		if now := s.current(); now != nil {
			w.tell("%s current: %d", s.name, now.n)
		}
	}
}

// nextValue returns a value that was not there before, or, at times, 0, which deletes.
func nextValue(values *int, r *rand.Rand) int {
	*values++
	if r.Intn(4) == 0 {
		return 0
	}
	return *values
}
