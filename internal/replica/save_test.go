package replica

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// What is saved and restored at any moment, in a new room, keeps what [TestModel] checks.
func TestModelRestored(t *testing.T) {
	for name, k := range plays {
		t.Run(name, func(t *testing.T) {
			k.saves = true
			playAll(t, 40, tolerated[name], func(seed int) *world { return newWorld(k, seed) })
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
	twin.load()
	return twin
}

// differs tells how a memory that missed some events differs from one that was restored.
func (m *memory) differs(twin *memory) string {
	if twin == nil {
		return ""
	}
	ours, theirs := m.fingerprint(), twin.fingerprint()
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
	all := mean.mean()
	for _, key := range slices.Sorted(maps.Keys(all)) {
		k := all[key]
		at, floor := k.stamp()
		line("%s: %v %d %s %d %v", key, at, floor, k.entry().Raw, k.said, k.weak)
	}
	for _, e := range mean.events {
		line("%s by %s replaces %s: %s fits %v blank %v %v%v%v%v%v", e.id, e.sender, e.replaces, e.dict.Content(), e.fits, e.blank, e.partial, e.bare, e.guessed, e.acked, e.lost)
	}
	return lines
}
