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

// What is saved and restored at any moment, in a new room, keeps what [TestModel] checks.
func TestModelRestored(t *testing.T) {
	for name, k := range plays {
		t.Run(name, func(t *testing.T) {
			k.saves = true
			playAll(t, 15, tolerated[name], func(seed int) *world { return newWorld(k, seed) })
		})
	}
}

// save saves what is known.
func (m *memory) save() {
	saved, err := m.Save()
	if err != nil {
		panic(err)
	}
	m.saved, m.read = saved, m.values()
	m.w.tell("%s is saved", m.name)
}

// restore begins with what was saved.
func (m *memory) restore() {
	if !m.w.saves || m.saved == nil {
		return
	}
	if err := m.Restore(m.saved); err != nil {
		panic(err)
	}
	if now := m.values(); !maps.Equal(now, m.read) {
		panic(fmt.Sprintf("%s reads %v, and %v before that was saved", m.name, now, m.read))
	}
	if !m.Behind("") {
		panic("it would write without knowing what came meanwhile")
	}
	m.w.tell("%s is restored", m.name)
}

// twin returns a memory that dies now and starts again from what it saves.
func (m *memory) twin() *memory {
	if !m.w.saves {
		return nil
	}
	saved, err := m.Save()
	if err != nil {
		panic(err)
	}
	twin := &memory{Room: New(wire.Layout{}, account), name: m.name + "'", w: m.w, hs: m.hs, blind: m.blind}
	if err := twin.Restore(saved); err != nil {
		panic(err)
	}
	if bad := m.differs(twin, "behind"); bad != "" {
		panic(bad)
	}
	twin.load()
	return twin
}

// differs tells how a memory that missed some events differs from one that was restored.
func (m *memory) differs(twin *memory, but string) string {
	if twin == nil {
		return ""
	}
	ours, theirs := m.fingerprint(), twin.fingerprint()
	if but == "behind" { // which is what is to be done then
		ours, theirs = ours[1:], theirs[1:]
	}
	for i, line := range ours {
		if i >= len(theirs) || theirs[i] != line {
			return fmt.Sprintf("%s knows %q, and restored %q", m.name, ours, theirs)
		}
	}
	return ""
}

// fingerprint tells all that is known but for the greatest own depth, which a start raises.
func (m *memory) fingerprint() (lines []string) {
	line := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	line("reads %v, todo %v", m.values(), m.Todo())
	doc := m.docs[""]
	if doc == nil {
		return lines
	}
	mean := doc.meaning
	line("stands %v %s %s %v, %v %v, past %v, sent %v, own %v", doc.found, doc.id, doc.standing.dict.Content(), doc.standing.err, doc.ask, doc.fork, doc.past, doc.sent, doc.own())
	line("depth %d, torn %v, forgotten %v, absent %v", mean.depth, mean.torn, mean.past, mean.all.absent)
	if doc.from != nil {
		line("took over %s, %s %s %s, copies %v", doc.from.dict.Content(), doc.from.mark, doc.from.copied, doc.from.took, mean.copies)
	}
	line("by floor %v %v, else %v", mean.ruled, mean.held, mean.kept.absent.weak)
	all := mean.mean()
	for _, key := range slices.Sorted(maps.Keys(all)) {
		k := all[key]
		at, floor := k.stamp()
		line("%s: %v %d %s %d %v", key, at, floor, k.entry().Raw, k.said, k.weak)
	}
	for _, e := range mean.events {
		line("%s by %s replaces %s: %s fits %v blank %v %v%v%v%v%v", e.id, e.sender, e.replaces, e.dict.Content(), e.fits, e.blank, e.partial, e.bare, e.guessed, e.acked, e.lost)
		if e.frozen {
			line("  says %d %v %v of %v", e.reading.depth, e.reading.stamps, e.reading.floor, e.reading.unsure)
		}
	}
	return lines
}

func (m *keyMemory) values() map[string]int {
	all := map[string]int{}
	for _, key := range keyNames {
		all[key] = m.value(key)
	}
	return all
}

// save saves what is known.
func (m *keyMemory) save() {
	saved, err := m.Save()
	if err != nil {
		panic(err)
	}
	m.saved, m.read = saved, m.values()
	m.w.tell("%s is saved", m.name)
}

// restore begins with what was saved.
func (m *keyMemory) restore() {
	if m.saved == nil {
		return
	}
	if err := m.Restore(m.saved); err != nil {
		panic(err)
	}
	if now := m.values(); !maps.Equal(now, m.read) {
		panic(fmt.Sprintf("%s reads %v, and %v before that was saved", m.name, now, m.read))
	}
	m.w.tell("%s is restored", m.name)
}

// room returns one that has loaded what stands there, by state key.
func loadedRoom(layout wire.Layout, contents map[string]string) *Room {
	r := New(layout, account)
	r.Expect()
	var s Snapshot
	for stateKey, content := range contents {
		s.State = append(s.State, Event{ID: "$" + stateKey, StateKey: stateKey, Sender: account, Content: json.RawMessage(content)})
	}
	r.Load(s)
	r.Settle(true)
	return r
}

// rooms are rooms of all kinds.
var rooms = map[string]struct {
	layout   wire.Layout
	contents map[string]string
}{
	"a dictionary":       {wire.Layout{}, map[string]string{"": `{"a":1,"b":null,"c":{"x":[1.0,"<\u2028\ud800"]},"d":{"encrypted_val":"$sealed"}}`}},
	"no event":           {wire.Layout{}, nil},
	"an empty one":       {wire.Layout{}, map[string]string{"": `{}`}},
	"other members":      {wire.Layout{}, map[string]string{"": `{"dev.joe.write":[],"\ud800":1,"a":2,"dev.joe.key:bm8=":3}`}},
	"a key twice":        {wire.Layout{}, map[string]string{"": `{"dev.joe.key:YQBi":1,"a\u0000b":2}`}},
	"no dictionary":      {wire.Layout{}, map[string]string{"": `[1]`}},
	"no JSON":            {wire.Layout{}, map[string]string{"": "{\xff"}},
	"elsewhere":          {wire.Layout{StateKey: "bot"}, map[string]string{"bot": `{"a":1}`}},
	"a key each":         {wire.Layout{PerKey: true}, map[string]string{"a": `{"a":1}`, "b": `{}`, "c": `{"c":null}`}},
	"others' among them": {wire.Layout{PerKey: true}, map[string]string{"a": `{"a":1}`, "b": `{"theirs":1}`, "c": `[]`}},
}

// reading tells what reads answer.
func readings(r *Room) string {
	keys, err := r.Keys()
	slices.Sort(keys)
	out := fmt.Sprintln(err)
	for _, key := range append(keys, "a", "b", "c") {
		entry, ok, err := r.Get(key)
		out += fmt.Sprintf("%q %q %v %v %v\n", key, entry.Raw, ok, entry.Err, err)
	}
	return out
}

func TestRestore(t *testing.T) {
	for name, room := range rooms {
		t.Run("reads are as before: "+name, func(t *testing.T) {
			r := loadedRoom(room.layout, room.contents)
			saved, err := r.Save()
			if err != nil {
				t.Fatal(err)
			}
			again := New(room.layout, account)
			if err := again.Restore(saved); err != nil {
				t.Fatal(err)
			}
			if got, want := readings(again), readings(r); got != want {
				t.Errorf("%s\n%s\nbefore", got, want)
			}
			for stateKey := range room.contents {
				if !again.Behind(stateKey) {
					t.Error("it is not behind")
				}
				if a, b := again.docs[stateKey], r.docs[stateKey]; a.standing.name() != b.standing.name() || a.needsMending() != b.needsMending() {
					t.Errorf("%v stands there, %v before", a.standing, b.standing)
				}
			}
			if todo := again.Todo(); len(todo) != 1 || !todo[0].Load {
				t.Errorf("what is to be done is %v", todo)
			}
		})
	}
	t.Run("an own event that sync brought out of its place before it was acknowledged", func(t *testing.T) {
		layout := wire.Layout{PerKey: true}
		r := loadedRoom(layout, map[string]string{"k": `{"k":1}`})
		draft, err := r.Draft("k", map[string]json.RawMessage{"k": json.RawMessage("2")}, map[string]*Attempt{"k": nil}, 60_000)
		if err != nil {
			t.Fatal(err)
		}
		r.Apply(Update{Timeline: []Event{{ID: "$own", StateKey: "k", Sender: account, Content: draft.Content, Replaces: "$missed"}}})
		r.Commit("k", draft, "$own")
		saved, err := r.Save()
		if err != nil {
			t.Fatal(err)
		}
		if err := New(layout, account).Restore(saved); err != nil {
			t.Error(err)
		}
	})
	t.Run("not of another room", func(t *testing.T) {
		saved, _ := loadedRoom(wire.Layout{}, map[string]string{"": `{"a":1}`}).Save()
		for why, test := range map[string]struct {
			room  *Room
			saved string
		}{
			"layout":     {New(wire.Layout{PerKey: true}, account), string(saved)},
			"state key":  {New(wire.Layout{StateKey: "x"}, account), string(saved)},
			"account":    {New(wire.Layout{}, "@other:x"), string(saved)},
			"version":    {New(wire.Layout{}, account), strings.Replace(string(saved), `"Version":1`, `"Version":2`, 1)},
			"event":      {New(wire.Layout{}, account), strings.Replace(string(saved), `"Events":{"":`, `"Events":{"other":`, 1)},
			"twice":      {New(wire.Layout{}, account), strings.Replace(string(saved), `"Known":[`, `"Known":[{"ID":"$"},`, 1)},
			"half of it": {New(wire.Layout{}, account), string(saved[:len(saved)/2])},
		} {
			if err := test.room.Restore([]byte(test.saved)); err == nil {
				t.Errorf("another %s is accepted", why)
			}
			if _, err := test.room.Keys(); err != ErrNotLoaded {
				t.Errorf("half of another %s is restored", why)
			}
		}
	})
	t.Run("not over what is loaded", func(t *testing.T) {
		r := loadedRoom(wire.Layout{}, map[string]string{"": `{"a":1}`})
		saved, _ := r.Save()
		if r.Restore(saved) == nil {
			t.Error("it is restored")
		}
		loading := New(wire.Layout{}, account)
		loading.Expect()
		if loading.Restore(saved) == nil {
			t.Error("it is restored while it is loaded")
		}
	})
	t.Run("what is not loaded is not saved", func(t *testing.T) {
		if _, err := New(wire.Layout{}, account).Save(); err != ErrNotLoaded {
			t.Error(err)
		}
	})
	t.Run("what was sent encrypted is saved as it stands in the room", func(t *testing.T) {
		r := loadedRoom(rooms["a dictionary"].layout, rooms["a dictionary"].contents)
		r.Open("d", "$sealed", []byte(`"in the clear"`))
		saved, _ := r.Save()
		if strings.Contains(string(saved), "in the clear") {
			t.Error("its value is saved")
		}
		again := New(wire.Layout{}, account)
		if err := again.Restore(saved); err != nil {
			t.Fatal(err)
		}
		if !again.Points("$sealed") {
			t.Error("it points nowhere")
		}
	})
	t.Run("a write goes deeper than what may still arrive", func(t *testing.T) {
		r := loadedRoom(wire.Layout{}, map[string]string{"": `{}`})
		first, _ := r.Draft("", nil, nil, 60_000)
		saved, _ := r.Save()
		again := New(wire.Layout{}, account)
		again.Reached(5000)
		if err := again.Restore(saved); err != nil {
			t.Fatal(err)
		}
		next, _ := again.Draft("", nil, nil, 60_000)
		if next.Attempt().At.Depth <= 5000 {
			t.Errorf("it goes as deep as %d", next.Attempt().At.Depth)
		}
		again = New(wire.Layout{}, account)
		if err := again.Restore(saved); err != nil {
			t.Fatal(err)
		}
		if next, _ := again.Draft("", nil, nil, 60_000); next.Attempt().At.Depth <= first.Attempt().At.Depth+50 {
			t.Errorf("it goes as deep as %d", next.Attempt().At.Depth)
		}
	})
	t.Run("what the last events have in common is saved once", func(t *testing.T) {
		content := map[string]int{}
		for i := range 500 {
			content[fmt.Sprintf("key %d", i)] = i
		}
		text, _ := json.Marshal(content)
		r := loadedRoom(wire.Layout{}, map[string]string{"": string(text)})
		for i := range 2 * maxEvents {
			key := fmt.Sprintf("key %d", i)
			draft, _ := r.Draft("", map[string]json.RawMessage{key: json.RawMessage(`"changed"`)}, map[string]*Attempt{key: nil}, 60_000)
			r.Commit("", draft, fmt.Sprintf("$%d", i))
		}
		if saved, _ := r.Save(); len(saved) > 15*len(text) {
			t.Errorf("it takes %d bytes of %d", len(saved), len(text))
		}
	})
}

// Whatever a file holds, it is restored or refused; then reads, a load and a write make no
// panic, and what is saved then is restored as it is.
func FuzzRestore(f *testing.F) {
	for _, room := range rooms {
		r := loadedRoom(room.layout, room.contents)
		draft, err := r.Draft(room.layout.Of("a"), map[string]json.RawMessage{"a": json.RawMessage(`7`)}, map[string]*Attempt{"a": nil}, 60_000)
		if err == nil {
			r.Commit(room.layout.Of("a"), draft, "$own")
		}
		saved, err := r.Save()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(saved, room.layout.PerKey)
	}
	for _, layout := range layouts {
		if layout.StateKey != "" {
			continue
		}
		old, heir := loadedRoom(layout, map[string]string{layout.Of("a"): `{"a":1}`, layout.Of("b"): `{"b":2}`}), New(layout, account)
		heir.Expect()
		heir.Settle(true)
		h, err := old.Leave()
		if err != nil {
			f.Fatal(err)
		}
		if _, err := heir.Inherit(h, maker, until, nil); err != nil {
			f.Fatal(err)
		}
		saved, err := heir.Save()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(saved, layout.PerKey)
	}
	w := newWorld(plays["a program and forks"], 3)
	w.play()
	saved, err := w.ms[0].Save()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(saved, false)
	f.Fuzz(func(t *testing.T, saved []byte, perKey bool) {
		layout := wire.Layout{PerKey: perKey}
		r := New(layout, account)
		if r.Restore(saved) != nil {
			if r.Loaded() || len(r.docs) > 0 {
				t.Error("half of it is restored")
			}
		} else {
			read := readings(r)
			again, err := r.Save()
			if err != nil {
				t.Fatal(err)
			}
			other := New(layout, account)
			if err := other.Restore(again); err != nil {
				t.Fatalf("%v: %s", err, again)
			}
			if got := readings(other); got != read {
				t.Errorf("%s\nis read after it was saved again, and before\n%s", got, read)
			}
		}
		r.Expect()
		r.Load(Snapshot{Timeline: []Event{{ID: "$1", StateKey: layout.Of("a"), Sender: account, Content: json.RawMessage(`{"a":1}`)},
			{ID: "$2", StateKey: layout.Of("a"), Sender: account, Content: json.RawMessage(`{"a":2}`), Replaces: "$1"}}})
		r.Settle(true)
		r.Fate("a", &Attempt{At: wire.Stamp{Depth: 3, ID: "x"}, Was: "$1"})
		draft, err := r.Draft(layout.Of("a"), map[string]json.RawMessage{"a": json.RawMessage(`5`)}, map[string]*Attempt{"a": nil}, 60_000)
		if err == nil {
			r.Commit(layout.Of("a"), draft, "$3")
		}
		readings(r)
	})
}
