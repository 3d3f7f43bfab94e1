package replica

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// In the per-key layout what stands in the room counts. This plays memories and a program
// there as [TestModel] does: at rest all read what stands in the room, and nobody writes for
// ever. A memory alone loses no acknowledged change to an own request that comes late; several
// lose none where requests don't.
func TestPerKey(t *testing.T) {
	for name, k := range map[string]keyKind{
		"alone":         {memories: 1, late: true},
		"several":       {memories: 3, restarts: true, tolerated: 2},
		"several, late": {memories: 3, late: true, tolerated: 2},
		"saved":         {memories: 3, restarts: true, tolerated: 2, kind: kind{saves: true}},
		"saved, silent": {memories: 3, restarts: true, tolerated: 2, kind: kind{saves: true, silent: true}},
		"silent":        {memories: 3, restarts: true, tolerated: 2, kind: kind{silent: true}},
		"forks":         {memories: 3, restarts: true, tolerated: 15, kind: kind{forks: 0.1}},
		"a program":     {memories: 2, restarts: true, program: true, tolerated: 15, kind: kind{forks: 0.05}},
	} {
		t.Run(name, func(t *testing.T) {
			playAll(t, 300, k.tolerated, func(seed int) *keyWorld { return newKeyWorld(k, seed) })
		})
	}
}

type keyKind struct {
	kind
	memories int
	program  bool
	restarts bool
	late     bool // requests come late, and repeatedly

	// tolerated is how many runs of 10,000 may fail: a request whose outcome is unknown can't
	// always be told from a late one, and here a fork can swallow a change after it was acknowledged.
	tolerated int
}

// A keyWorld has a server for each key.
type keyWorld struct {
	*world
	keys keyKind
	ms   []*keyMemory
}

type keyMemory struct {
	*Room
	name  string
	w     *keyWorld
	hs    []*server
	pos   map[string]int
	tried map[string]*change
	saw   map[string]*change // what it reads
	late  []func()
	heard []func()
	puts  int
	saved []byte
	read  map[string]int // what it read when that was saved
}

var keyNames = []string{"a", "b", "c"}

func newKeyWorld(k keyKind, seed int) *keyWorld {
	w := &keyWorld{world: newWorld(k.kind, seed), keys: k}
	w.hs = nil
	for _, key := range keyNames {
		w.hs = append(w.hs, &server{w: w.world, name: key, in: map[*modelEvent]bool{}})
	}
	for i := range k.memories {
		m := &keyMemory{w: w, hs: w.hs, name: fmt.Sprintf("m%d", i)}
		w.ms = append(w.ms, m)
		m.start()
	}
	return w
}

func (w *keyWorld) server(key string) *server { return w.hs[slices.Index(keyNames, key)] }

func (m *keyMemory) server(key string) *server { return m.hs[slices.Index(keyNames, key)] }

func (w *keyWorld) event(key string, e *modelEvent) Event {
	out := e.event()
	out.StateKey = key
	return out
}

func (m *keyMemory) start() {
	m.Room = New(wire.Layout{PerKey: true}, m.account())
	m.pos, m.tried, m.saw, m.heard = map[string]int{}, map[string]*change{}, map[string]*change{}, nil
	m.restore()
	m.load()
}

func (m *keyMemory) account() string { return "@" + m.name + ":x" }

func (m *keyMemory) load() {
	m.Expect()
	var all []*modelEvent
	name := map[*modelEvent]string{}
	for _, s := range m.hs {
		m.pos[s.name] = len(s.has)
		for _, e := range s.has {
			name[e] = s.name
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *modelEvent) int { return a.n - b.n })
	all = all[max(0, len(all)-m.w.window):]
	var s Snapshot
	seen := map[string]bool{}
	for _, e := range all {
		if key := name[e]; !seen[key] {
			seen[key] = true
			if e.replaces != nil && !e.silent {
				s.State = append(s.State, m.w.event(key, e.replaces))
			}
		}
		s.Timeline = append(s.Timeline, m.w.event(name[e], e))
	}
	for _, server := range m.hs {
		if now := server.current(); now != nil && !seen[server.name] {
			s.State = append(s.State, m.w.event(server.name, now))
		}
	}
	for i := range s.State {
		s.State[i].Replaces, s.State[i].Before = "", nil
	}
	if _, back := m.Load(s); back {
		panic("the server has not gone back")
	}
	m.Settle(false)
	m.tasks()
}

func (m *keyMemory) tasks() {
	defer m.note()
	for n := 0; n < 100; n++ {
		todo := m.Todo()
		slices.SortFunc(todo, func(a, b Task) int { return strings.Compare(a.StateKey, b.StateKey) }) // so that a seed tells it all
		i := slices.IndexFunc(todo, func(task Task) bool { return task.Load || task.Ask })
		switch {
		case i < 0:
			return
		case todo[i].Load:
			m.load()
			return
		}
		m.asks(todo[i].StateKey)()
	}
	panic("it asks for ever")
}

// note notes which changes the memory has seen.
func (m *keyMemory) note() {
	for _, key := range keyNames {
		value := m.value(key)
		if before := m.saw[key]; before == nil && value == 0 || before != nil && before.value == value {
			continue
		}
		for _, c := range m.w.changes {
			if c.key == key && c.value == value && (value != 0 || m.docs[key].id != "" && m.w.byID[m.docs[key].id].truth[key] == c) {
				m.saw[key] = c
			}
		}
	}
}

func (m *keyMemory) asks(key string) func() {
	count := m.Count(key)
	now := m.server(key).current()
	var content json.RawMessage
	if now != nil {
		content = now.event().Content
	}
	return func() {
		if heard, _ := m.Answer(key, content, now != nil, count, nil); !heard {
			m.Missed()
		}
	}
}

func (m *keyMemory) sync(key string, n int) {
	s := m.server(key)
	for ; n > 0 && m.pos[key] < len(s.has); n-- {
		e := s.has[m.pos[key]]
		m.pos[key]++
		m.Apply(Update{Timeline: []Event{m.w.event(key, e)}})
		m.tasks()
	}
}

func (m *keyMemory) value(key string) int { return (&memory{Room: m.Room}).value(key) }

// write puts a value, or what is read already.
func (m *keyMemory) write(key string, value *int) {
	w := m.w
	if m.Behind(key) {
		m.load()
	}
	var c *change
	changes, truth := map[string]json.RawMessage{}, maps.Clone(m.saw)
	if value != nil {
		c = &change{key: key, value: *value, prev: m.saw[key], own: m.tried[key], at: m.server(key), by: m.name}
		m.tried[key], truth[key] = c, c
		w.changes = append(w.changes, c)
		changes[key] = nil
		if *value != 0 {
			changes[key] = json.RawMessage(fmt.Sprint(*value))
		}
	}
	draft, err := m.Draft(key, changes, sentFirst(changes), 60_000)
	if err != nil {
		panic(err)
	}
	m.puts++
	server := m.server(key)
	land := func() *modelEvent {
		e := server.put(draft.Content, m.account(), truth)
		if c != nil {
			c.done = true
		}
		w.tell("  %s -> %d %s", draft.Content, e.n, e.id)
		return e
	}
	defer m.note()
	for try := range 4 {
		if w.keys.late && w.r.Intn(10) == 0 {
			m.late = append(m.late, func() { land() })
			draft = draft.Repeated() // a proxy does not say so, but then no request was in doubt
		}
		switch x := w.r.Float64(); {
		case x < 0.75:
			w.tell("%s put %s: %s", m.name, key, draft.Content)
			e := land()
			if c != nil {
				c.acked, m.saw[key] = true, c
			}
			if try > 0 {
				draft = draft.Repeated()
			}
			m.Commit(key, draft, e.id)
			return
		case x < 0.85:
			w.tell("%s put %s: %s (answer lost)", m.name, key, draft.Content)
			land()
		case x < 0.95 && w.keys.late:
			w.tell("%s put %s: %s (comes late)", m.name, key, draft.Content)
			m.late = append(m.late, func() { land() })
		}
	}
	m.Doubt(key, draft)
}

func (m *keyMemory) mends() (moved bool) {
	for _, task := range m.Todo() {
		if task.Mend {
			m.w.tell("%s mends %s", m.name, task.StateKey)
			m.write(task.StateKey, nil)
			moved = true
		}
	}
	return moved
}

func (w *keyWorld) play() (bad string) {
	r := w.r
	for range 5 + r.Intn(w.steps) {
		w.now++
		m := w.ms[r.Intn(len(w.ms))]
		key := keyNames[r.Intn(len(keyNames))]
		if w.saves && r.Intn(4) == 0 {
			m.save()
		}
		if r.Intn(8) == 0 {
			m.heard = append(m.heard, m.asks(key))
		} else if len(m.heard) > 0 && r.Intn(4) == 0 {
			m.heard[0]()
			m.heard = m.heard[1:]
			m.note()
		}
		switch x := r.Intn(100); {
		case x < 40:
			value := nextValue(&w.values, r)
			if m.value(key) != value {
				m.write(key, &value)
			}
		case x < 60:
			m.sync(key, 1+r.Intn(3))
		case x < 65:
			w.tell("%s gap", m.name)
			m.Missed()
			m.load()
		case x < 69 && w.keys.restarts:
			w.tell("%s restarts", m.name)
			m.start()
		case x < 75:
			m.mends()
		case x < 85 && len(m.late) > 0:
			i := r.Intn(len(m.late))
			f := m.late[i]
			m.late = slices.Delete(m.late, i, i+1)
			w.tell("late from %s", m.name)
			f()
		case x >= 90 && w.keys.program:
			w.foreign(key)
		}
	}
	for _, m := range w.ms {
		for _, f := range m.late {
			w.tell("late from %s", m.name)
			f()
		}
		m.late, m.puts = nil, 0
	}
	return w.rest()
}

// foreign is what a program writes.
func (w *keyWorld) foreign(key string) {
	now := w.server(key).current()
	w.values++
	c := &change{key: key, value: w.values, acked: true, done: true, by: "o"}
	if now != nil {
		c.prev = now.truth[key]
	}
	w.changes = append(w.changes, c)
	e := w.server(key).put(json.RawMessage(fmt.Sprintf(`{%q:%d}`, key, c.value)), "@opsdroid:x", map[string]*change{key: c})
	w.tell("a program writes %s=%d -> %d %s", key, c.value, e.n, e.id)
}

func (w *keyWorld) rest() (bad string) {
	for round, moved := 0, true; moved; round++ {
		moved = false
		for _, i := range w.r.Perm(len(w.ms)) {
			m := w.ms[i]
			for _, key := range keyNames {
				w.now++
				m.sync(key, 1<<20)
			}
			m.tasks()
			moved = m.mends() || moved
			for len(m.late) > 0 {
				f := m.late[0]
				m.late = m.late[1:]
				f()
				moved = true
			}
		}
		if round > 60 {
			return "writes for ever"
		}
	}
	for _, key := range keyNames {
		stands := 0
		if now := w.server(key).current(); now != nil {
			var content map[string]int
			_ = json.Unmarshal(now.content, &content)
			stands = content[key]
		}
		for _, m := range w.ms {
			w.atRest += m.puts
			if got := m.value(key); got != stands {
				return fmt.Sprintf("%s reads %s=%d, %d stands in the room", m.name, key, got, stands)
			}
		}
		if may := w.may(key); (w.keys.memories == 1 || !w.keys.late) && len(may) > 0 && !slices.Contains(may, stands) {
			return fmt.Sprintf("%s is %d, may be %v", key, stands, may)
		}
	}
	return ""
}

// What stands under opsdroid's state key of a key hides a memory's own value only if it says
// something of that key, and the bot may write there.
func TestKeysThatOpsdroidHasElsewhere(t *testing.T) {
	for name, test := range map[string]struct {
		key, under, content string // what opsdroid has put, and where
		elsewhere           bool
	}{
		"put by opsdroid":        {".", "", `{".":"theirs"}`, true},
		"deleted":                {".", "", `{}`, true},
		"another key's":          {"", "", `{".":"theirs"}`, false},
		"both keys":              {"", "", `{".":"theirs","":"theirs"}`, true},
		"another user's ID":      {"@ops:hs", "@ops:hs", `{"@ops:hs":"theirs"}`, false},
		"the bot's own ID":       {"@bot:hs", "@bot:hs", `{"@bot:hs":"theirs"}`, true},
		"a dictionary of theirs": {"", "", `{"a":1}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			layout := wire.Layout{PerKey: true}
			r := New(layout, "@bot:hs")
			usual := layout.Of(test.key)
			mine := json.RawMessage(fmt.Sprintf(`{%q:"mine"}`, test.key))
			r.Expect()
			r.Load(Snapshot{State: []Event{{ID: "$1", StateKey: usual, Content: mine}, {ID: "$2", StateKey: test.under, Content: json.RawMessage(test.content)}}})
			r.Settle(false)
			want := usual
			if test.elsewhere {
				want = test.under
			}
			if got := r.StateKey(test.key); got != want {
				t.Errorf("%q is looked for under %q, not under %q", test.key, got, want)
			}
		})
	}
}
