package replica

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// A peer is one of several memories of one dictionary. It writes keys of its own.
type peer struct {
	*Room
	name   string
	cursor int    // how far sync has come
	write  *write // under way
	want   map[string]string
}

type write struct {
	content wire.Dictionary
	changed []string
	stored  string // the event's ID, once it is stored
}

// peers are memories that share a homeserver, which is a log of events.
type peers struct {
	log    []Event
	clock  int64
	serial int // of the next value: a former one could be taken for what the other took away
	all    []*peer
}

func (p *peers) latest() Event {
	if len(p.log) == 0 {
		return Event{}
	}
	return p.log[len(p.log)-1]
}

// store stores what a peer writes; the same content again is the same event.
func (p *peers) store(one *peer) {
	content := one.write.content.Content()
	if last := p.latest(); last.ID != "" && wire.Equal(last.Content, content) {
		one.write.stored = last.ID
		return
	}
	p.log = append(p.log, Event{ID: fmt.Sprintf("$%d", len(p.log)), Content: content, Time: p.clock})
	one.write.stored = p.latest().ID
}

func (p *peers) answer(one *peer) {
	one.Commit("", one.write.stored, one.write.content, one.write.changed)
	one.write = nil
}

func (p *peers) sync(one *peer, n int) {
	for _, event := range p.log[one.cursor : one.cursor+n] {
		one.Apply(event)
	}
	one.cursor += n
}

// begin begins to change a key.
func (p *peers) begin(t *rapid.T, one *peer) {
	p.reread(t, one)
	base, err := one.Begin("")
	require.NoError(t, err)
	key := one.name + rapid.SampledFrom([]string{"1", "2"}).Draw(t, "key")
	p.serial++
	raw := json.RawMessage(fmt.Sprint(p.serial))
	one.write = &write{content: base.With(map[string]json.RawMessage{key: raw}), changed: []string{key}}
	one.want[key] = string(raw)
}

// chore begins what the peer has to do, and reports whether there was anything.
func (p *peers) chore(t *rapid.T, one *peer) bool {
	if p.reread(t, one) {
		return true
	}
	if len(one.Todo()) == 0 {
		return false
	}
	base, changes, ok, err := one.Amend("")
	require.NoError(t, err)
	require.True(t, ok)
	one.write = &write{content: base.With(changes)}
	return true
}

func (p *peers) reread(t *rapid.T, one *peer) bool {
	if !one.Stale("") {
		return false
	}
	one.Hold("")
	require.NoError(t, one.Refresh(p.latest(), len(p.log) > 0))
	return true
}

// Memories that write the same dictionary lose none of each other's keys, however
// their writes and what they put back meet.
func TestMemoriesLoseNothingOfEachOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &peers{}
		for _, name := range []string{"a", "b"} {
			one := &peer{Room: New(wire.Layout{}), name: name, want: make(map[string]string)}
			one.Expect()
			one.Restore(nil, nil)
			p.all = append(p.all, one)
		}
		any := func(t *rapid.T) *peer { return p.all[rapid.IntRange(0, len(p.all)-1).Draw(t, "peer")] }
		t.Repeat(map[string]func(*rapid.T){
			"writes": func(t *rapid.T) {
				if one := any(t); one.write == nil {
					p.begin(t, one)
				}
			},
			"is stored": func(t *rapid.T) {
				if one := any(t); one.write != nil && one.write.stored == "" {
					p.store(one)
				}
			},
			"is answered": func(t *rapid.T) {
				if one := any(t); one.write != nil && one.write.stored != "" {
					p.answer(one)
				}
			},
			"syncs": func(t *rapid.T) {
				one := any(t)
				p.sync(one, rapid.IntRange(0, len(p.log)-one.cursor).Draw(t, "events"))
			},
			"has something to do": func(t *rapid.T) {
				if one := any(t); one.write == nil {
					p.chore(t, one)
				}
			},
			"": func(*rapid.T) { p.clock += 10 },
		})
		for busy, rounds := true, 0; busy; rounds++ {
			require.Less(t, rounds, 100, "they never come to an end: %s", p.log)
			busy = false
			for _, one := range p.all {
				if one.write == nil {
					busy = p.chore(t, one) || busy
				}
			}
			for _, one := range p.all { // at once, so that what they put back meets
				if one.write != nil {
					busy = true
					if one.write.stored == "" {
						p.store(one)
					}
					p.answer(one)
				}
			}
			for _, one := range p.all {
				busy = busy || one.cursor < len(p.log)
				p.sync(one, len(p.log)-one.cursor)
			}
		}
		for _, one := range p.all {
			for _, owner := range p.all {
				for key, want := range owner.want {
					entry, _, err := one.Get(key)
					require.NoError(t, err)
					require.Equal(t, want, string(entry.Raw), "what %s holds under %q: %s", one.name, key, p.log)
				}
			}
		}
	})
}
