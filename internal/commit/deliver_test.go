package commit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// A ledger notes attempts as a journal does.
type ledger struct {
	mu    sync.Mutex // owns all below
	first map[string]*replica.Attempt
	noted [][]string // the keys, each time
	fails error
}

// journals gives a memory that is not open yet a journal.
func (m *memory) journals() *ledger {
	l := &ledger{first: make(map[string]*replica.Attempt)}
	m.attempted = func(_ string, with replica.Attempt, changes []commit.Change) error {
		m.call("note")
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.fails != nil {
			return l.fails
		}
		var keys []string
		for _, c := range changes {
			keys = append(keys, c.Key)
			if l.first[c.Key] == nil {
				l.first[c.Key] = &with
			}
		}
		l.noted = append(l.noted, keys)
		return nil
	}
	return l
}

// again returns a change as the journal has it by now.
func (l *ledger) again(c commit.Change) commit.Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.Attempt = l.first[c.Key]
	return c
}

func journaled(t *testing.T, layout wire.Layout, contents map[string]string) (*memory, *ledger) {
	m := serve(layout, contents)
	l := m.journals()
	m.opens(t)
	return m, l
}

func (m *memory) delivers(changes ...commit.Change) []error {
	return m.queue.Deliver(context.Background(), context.Background(), changes...)
}

// alongside delivers changes together with a write that somebody waits for.
func (m *memory) alongside(changes []commit.Change, write ...commit.Change) (results []error, err error) {
	g := m.gate()
	var doing sync.WaitGroup
	doing.Go(func() { m.queue.Submit(context.Background(), set("opener", "0")) })
	<-g.entered
	doing.Go(func() { results = m.delivers(changes...) })
	synctest.Wait()
	doing.Go(func() { _, err = m.queue.Submit(context.Background(), write...) })
	synctest.Wait()
	m.did()
	close(g.open)
	doing.Wait()
	return results, err
}

// both plays a scene in both layouts.
func both(t *testing.T, name string, play func(t *testing.T, layout wire.Layout)) {
	for where, layout := range map[string]wire.Layout{"one dictionary": {}, "an event for each key": {PerKey: true}} {
		scene(t, name+", "+where, func(t *testing.T) { play(t, layout) })
	}
}

func TestDeliver(t *testing.T) {
	scene(t, "goes out with what waits, and is noted first", func(t *testing.T) {
		m, l := journaled(t, wire.Layout{}, map[string]string{"": `{}`})
		results, err := m.alongside([]commit.Change{set("a", "1"), set("b", "2"), del("c")}, set("d", "4"))
		require.NoError(t, err)
		require.Equal(t, []error{nil, nil, nil}, results)
		require.Equal(t, []string{"note", "put"}, m.did())
		require.ElementsMatch(t, []string{"a", "b", "c"}, l.noted[len(l.noted)-1])
		m.holds(t, `{"a":1,"b":2,"d":4,"opener":0}`)
	})
	scene(t, "is not sent if it can't be noted", func(t *testing.T) {
		m, l := journaled(t, wire.Layout{}, map[string]string{"": `{}`})
		l.fails = errors.New("the disk is full")
		results, err := m.alongside([]commit.Change{set("a", "1")}, set("d", "4"))
		require.NoError(t, err)
		require.ErrorIs(t, results[0], l.fails)
		require.NotErrorIs(t, results[0], commit.ErrRefused)
		m.holds(t, `{"d":4,"opener":0}`)
	})
	scene(t, "is before a write of the same key", func(t *testing.T) {
		m, l := journaled(t, wire.Layout{}, map[string]string{"": `{}`})
		results, err := m.alongside([]commit.Change{set("a", "1"), set("b", "1")}, set("a", "2"))
		require.NoError(t, err)
		require.Equal(t, []error{nil, nil}, results)
		require.Equal(t, []string{"note", "put"}, m.did())
		require.Equal(t, []string{"b"}, l.noted[len(l.noted)-1])
		m.holds(t, `{"a":2,"b":1,"opener":0}`)
	})
	scene(t, "the later of two changes of a key counts", func(t *testing.T) {
		m, _ := journaled(t, wire.Layout{}, map[string]string{"": `{}`})
		later, earlier := set("a", "2"), set("a", "1")
		later.Seq, earlier.Seq = 2, 1
		require.Equal(t, []error{nil, nil}, m.delivers(later, earlier))
		m.holds(t, `{"a":2}`)
	})
	scene(t, "what changes nothing is sent all the same, as an earlier attempt may still arrive", func(t *testing.T) {
		m, _ := journaled(t, wire.Layout{}, map[string]string{"": `{"a":1}`})
		require.Equal(t, []error{nil}, m.delivers(set("a", "1")))
		require.Equal(t, []string{"note", "put"}, m.did())
	})
	scene(t, "what changes nothing is not sent where none may arrive, once it is known that it stands there", func(t *testing.T) {
		m, _ := journaled(t, wire.Layout{}, map[string]string{"": `{"a":1}`})
		same := set("a", "1")
		same.Fresh = true
		require.Equal(t, []error{nil}, m.delivers(same))
		require.Equal(t, []string{"ask"}, m.did())

		m.fates(func(context.Context, json.RawMessage) fate { return fate{outcome: commit.Unknown} })
		other := set("a", "2")
		other.Fresh = true
		require.ErrorIs(t, m.delivers(other)[0], commit.ErrUnknownOutcome)
		m.fates(func(context.Context, json.RawMessage) fate { return fate{outcome: commit.Stored} })
		m.did()
		require.Equal(t, []error{nil}, m.delivers(same))
		require.Contains(t, m.did(), "put", "the other one may still arrive")
	})
	scene(t, "what it lets wait are only others that nobody waits for", func(t *testing.T) {
		m, _ := journaled(t, wire.Layout{PerKey: true}, nil)
		var changes []commit.Change
		for i := range 50 {
			changes = append(changes, set(fmt.Sprintf("key%d", i), "1"))
		}
		g := m.gate()
		var doing sync.WaitGroup
		doing.Go(func() { require.Equal(t, make([]error, 50), m.delivers(changes...)) })
		<-g.entered
		doing.Go(func() { m.submit(t, set("awaited", "1")) })
		synctest.Wait()
		close(g.open)
		doing.Wait()
		require.Equal(t, "awaited", m.log[1].StateKey)
		require.Len(t, m.log, 51)
	})
	scene(t, "steady writes don't keep all of it waiting", func(t *testing.T) {
		m, _ := journaled(t, wire.Layout{PerKey: true}, nil)
		var doing sync.WaitGroup
		n := 0
		m.fates(func(context.Context, json.RawMessage) fate {
			if n++; n < 40 { // there is always somebody who waits
				doing.Go(func() { m.submit(t, set(fmt.Sprintf("awaited%d", n), "1")) })
			}
			time.Sleep(time.Millisecond)
			return fate{outcome: commit.Stored}
		})
		results := make([]error, 5)
		for i := range 5 {
			doing.Go(func() { results[i] = m.delivers(set(fmt.Sprintf("key%d", i), "1"))[0] })
		}
		doing.Wait()
		require.Equal(t, make([]error, 5), results)
		last := 0
		for i, e := range m.log {
			if strings.HasPrefix(e.StateKey, "key") {
				last = i
			}
		}
		require.Less(t, last, 30)
	})
	scene(t, "nothing of it is under way when it returns", func(t *testing.T) {
		m, _ := journaled(t, wire.Layout{}, map[string]string{"": `{}`})
		g := m.gate()
		ctx, cancel := context.WithCancel(context.Background())
		var delivering sync.WaitGroup
		returned := false
		delivering.Go(func() {
			require.Equal(t, []error{nil}, m.queue.Deliver(ctx, nil, set("a", "1")))
			returned = true
		})
		<-g.entered
		cancel()
		synctest.Wait()
		require.False(t, returned)
		close(g.open)
		delivering.Wait()
	})
	scene(t, "no longer than the timeout", func(t *testing.T) {
		m, _ := journaled(t, wire.Layout{}, map[string]string{"": `{}`})
		m.gate()
		began := time.Now()
		require.ErrorIs(t, m.delivers(set("a", "1"))[0], commit.ErrUnknownOutcome)
		require.Equal(t, m.timeout, time.Since(began))
	})
	scene(t, "a closed queue takes nothing", func(t *testing.T) {
		m, _ := journaled(t, wire.Layout{}, map[string]string{"": `{}`})
		m.queue.Close(context.Background())
		require.Equal(t, []error{commit.ErrClosed, commit.ErrClosed}, m.delivers(set("a", "1"), set("b", "1")))
	})
}

// poisoned refuses what holds poison, as a homeserver refuses what is no JSON for it.
func poisoned(_ context.Context, content json.RawMessage) fate {
	if strings.Contains(string(content), "poison") {
		return fate{outcome: commit.Invalid}
	}
	return fate{outcome: commit.Stored}
}

func puts(did []string) int {
	return len(slices.DeleteFunc(did, func(call string) bool { return call != "put" }))
}

func TestWhatIsRefused(t *testing.T) {
	scene(t, "one change of 1000 is found by halving", func(t *testing.T) {
		m, _ := journaled(t, wire.Layout{}, map[string]string{"": `{}`})
		m.fates(poisoned)
		var changes []commit.Change
		for i := range 1000 {
			changes = append(changes, set(fmt.Sprintf("key%d", i), "1"))
		}
		changes[617].Value = []byte(`"poison"`)
		for i, err := range m.delivers(changes...) {
			if i == 617 {
				require.ErrorIs(t, err, commit.ErrRefused)
				require.ErrorIs(t, err, errInvalid)
			} else {
				require.NoError(t, err)
			}
		}
		require.LessOrEqual(t, puts(m.did()), 21)
	})
	scene(t, "and so is one of many writes", func(t *testing.T) {
		m := start(t, `{}`)
		m.fates(poisoned)
		var writes [][]commit.Change
		for i := range 256 {
			writes = append(writes, []commit.Change{set(fmt.Sprintf("key%d", i), "1")})
		}
		writes[100][0].Value = []byte(`"poison"`)
		for i, result := range m.together(writes...) {
			require.Equal(t, i == 100, errors.Is(result.err, errInvalid))
		}
		require.LessOrEqual(t, puts(m.did()), 17)
	})
	scene(t, "is told from what may be tried again", func(t *testing.T) {
		m, _ := journaled(t, wire.Layout{}, map[string]string{"": `{"future":{"dev.joe.future":1}}`})
		results := m.delivers(set("large", fmt.Sprintf("%q", strings.Repeat("x", 70_000))), set("future", "1"), set("a", "1"))
		require.ErrorIs(t, results[0], commit.ErrRefused)
		require.ErrorIs(t, results[0], commit.ErrTooLarge)
		require.ErrorIs(t, results[1], commit.ErrRefused)
		require.ErrorIs(t, results[1], commit.ErrUnreadable)
		require.NoError(t, results[2])
		m.fates(refuses)
		err := m.delivers(set("b", "1"))[0]
		require.ErrorIs(t, err, errRefused)
		require.NotErrorIs(t, err, commit.ErrRefused)
	})
	scene(t, "what stands there is no dictionary", func(t *testing.T) {
		m, _ := journaled(t, wire.Layout{}, map[string]string{"": `[]`})
		require.ErrorIs(t, m.delivers(set("a", "1"))[0], commit.ErrRefused)
	})
}

// loses lets the answer of the next Put be lost; arrives says what becomes of the request.
func (m *memory) loses(arrives fate) {
	arrives.outcome = commit.Unknown
	once := arrives
	m.fates(func(context.Context, json.RawMessage) fate {
		now := once
		once = fate{outcome: commit.Stored}
		return now
	})
}

func TestSentBefore(t *testing.T) {
	a := set("a", "1")
	// lives plays on in the same process, and in one that starts again from the journal alone, or
	// with what was saved at some time.
	lives := func(t *testing.T, name string, contents map[wire.Layout]map[string]string, play func(t *testing.T, m *memory, l *ledger, next func() *memory)) {
		both(t, name, func(t *testing.T, layout wire.Layout) {
			for how, start := range map[string]func(m *memory, l *ledger, saved []byte) *memory{
				"goes on": func(m *memory, _ *ledger, _ []byte) *memory { m.syncs(); return m },
				"starts from the journal alone": func(m *memory, l *ledger, _ []byte) *memory {
					m = m.join("@bot:x")
					*l = *m.journals()
					return m
				},
				"starts from what was saved": func(m *memory, l *ledger, saved []byte) *memory {
					m = m.join("@bot:x")
					*l = *m.journals()
					require.NoError(t, m.room.Restore(saved))
					return m
				},
			} {
				t.Log(how)
				m, l := journaled(t, layout, contents[layout])
				saved, err := m.room.Save()
				require.NoError(t, err)
				play(t, m, l, func() *memory {
					first := l.first
					next := start(m, l, saved)
					l.first = first
					if next != m {
						for _, at := range first {
							next.room.Reached(at.At.Depth)
						}
						next.opens(t)
					}
					next.did()
					return next
				})
			}
		})
	}
	some := map[wire.Layout]map[string]string{{}: {"": `{"a":0}`}, {PerKey: true}: {"a": `{"a":0}`}}
	lives(t, "has arrived, and costs no put", some, func(t *testing.T, m *memory, l *ledger, next func() *memory) {
		m.loses(fate{stored: true})
		require.ErrorIs(t, m.delivers(a)[0], commit.ErrUnknownOutcome)
		m = next()
		before := len(m.log)
		require.Equal(t, []error{nil}, m.delivers(l.again(a)))
		require.Len(t, m.log, before)
		m.syncs()
		m.holds(t, `{"a":1}`)
	})
	lives(t, "never arrived, and goes out again", some, func(t *testing.T, m *memory, l *ledger, next func() *memory) {
		m.loses(fate{})
		require.ErrorIs(t, m.delivers(a)[0], commit.ErrUnknownOutcome)
		m.writes("b", "2")
		m = next()
		require.Equal(t, []error{nil}, m.delivers(l.again(a)))
		m.syncs()
		m.holds(t, `{"a":1,"b":2}`)
	})
	lives(t, "was heard of and changed, and does not come back", some, func(t *testing.T, m *memory, l *ledger, next func() *memory) {
		m.loses(fate{stored: true})
		require.ErrorIs(t, m.delivers(a)[0], commit.ErrUnknownOutcome)
		m.writes("a", "2")
		m = next()
		require.Equal(t, []error{commit.ErrSuperseded}, m.delivers(l.again(a)))
		require.Zero(t, puts(m.did()))
		m.syncs()
		m.holds(t, `{"a":2}`)
	})
	lives(t, "was changed back to what it was, and does not come back", some, func(t *testing.T, m *memory, l *ledger, next func() *memory) {
		m.loses(fate{stored: true})
		require.ErrorIs(t, m.delivers(a)[0], commit.ErrUnknownOutcome)
		m.writes("a", "0")
		m = next()
		require.Equal(t, []error{commit.ErrSuperseded}, m.delivers(l.again(a)))
		m.syncs()
		m.holds(t, `{"a":0}`)
	})
	lives(t, "arrives once more after it was sent again, and after a later change", some, func(t *testing.T, m *memory, l *ledger, next func() *memory) {
		m.loses(fate{late: true})
		require.ErrorIs(t, m.delivers(a)[0], commit.ErrUnknownOutcome)
		m = next()
		require.Equal(t, []error{nil}, m.delivers(l.again(a)))
		l.first = make(map[string]*replica.Attempt)
		later := set("a", "3")
		later.Seq = 2
		require.Equal(t, []error{nil}, m.delivers(later))
		m.server.deliver()
		m.syncs()
		passes(time.Minute)
		m.syncs()
		m.holds(t, `{"a":3}`)
	})
	lives(t, "arrives only after it was sent again and changed by somebody", some, func(t *testing.T, m *memory, l *ledger, next func() *memory) {
		m.loses(fate{late: true})
		require.ErrorIs(t, m.delivers(a)[0], commit.ErrUnknownOutcome)
		m = next()
		require.Equal(t, []error{nil}, m.delivers(l.again(a)))
		m.writes("a", "4")
		m.syncs()
		m.server.deliver()
		m.syncs()
		passes(time.Minute)
		m.syncs()
		m.holds(t, `{"a":4}`)
	})
	lives(t, "a deletion that arrived", some, func(t *testing.T, m *memory, l *ledger, next func() *memory) {
		gone := del("a")
		gone.Over = m.room.Held("a")
		m.loses(fate{stored: true})
		require.ErrorIs(t, m.delivers(gone)[0], commit.ErrUnknownOutcome)
		m = next()
		require.Equal(t, []error{nil}, m.delivers(l.again(gone)))
		m.syncs()
		m.holds(t, `{}`)
	})
	both(t, "was changed back before anything was heard of it", func(t *testing.T, layout wire.Layout) {
		m, l := journaled(t, layout, some[layout])
		m.loses(fate{stored: true})
		var once sync.Once // before anything is asked for
		theirs := func(context.Context) error { once.Do(func() { m.writes("a", "0") }); return nil }
		m.asked(theirs)
		m.loaded(theirs)
		m.delivers(a)
		synctest.Wait()
		for _, err := range m.delivers(l.again(a)) {
			if err != nil { // it need not have heard of the later change
				require.Equal(t, commit.ErrSuperseded, err)
			}
		}
		m.syncs()
		passes(time.Minute)
		m.syncs()
		m.holds(t, `{"a":0}`)
	})
	both(t, "never arrived, and somebody has made the same change", func(t *testing.T, layout wire.Layout) {
		m, l := journaled(t, layout, some[layout])
		m.loses(fate{})
		m.delivers(a)
		m.writes("a", "1")
		m.syncs()
		require.Equal(t, []error{nil}, m.delivers(l.again(a)))
		m.holds(t, `{"a":1}`)
	})
	scene(t, "keeps its stamp beside a later depth", func(t *testing.T) {
		m, l := journaled(t, wire.Layout{}, some[wire.Layout{}])
		m.loses(fate{})
		m.delivers(a)
		m.writes("b", "2")
		m.syncs()
		require.Equal(t, []error{nil, nil}, m.delivers(l.again(a), set("c", "3")))
		dict, err := wire.Layout{}.Decode("", m.content(""))
		require.NoError(t, err)
		require.Equal(t, l.first["a"].At, dict.Write.Keys["a"])
		require.Equal(t, wire.Stamp{Depth: dict.Write.Depth, ID: dict.Write.ID}, dict.Write.Keys["c"])
		require.Greater(t, dict.Write.Depth, l.first["a"].At.Depth)
	})
	scene(t, "loses to what came while it was being sent", func(t *testing.T) {
		m, l := journaled(t, wire.Layout{}, some[wire.Layout{}])
		m.loses(fate{late: true})
		m.delivers(a)
		m.locked(func() { m.encrypt = true })
		m.sealing = func() { // between the base and the draft
			m.server.deliver()
			m.writes("a", "2")
			m.syncs()
		}
		require.Equal(t, []error{commit.ErrSuperseded}, m.delivers(l.again(a)))
		require.NotEmpty(t, m.removed, "what was sealed for it is told of")
		m.holds(t, `{"a":2}`)
	})
	scene(t, "goes out encrypted once the room is", func(t *testing.T) {
		m, l := journaled(t, wire.Layout{}, some[wire.Layout{}])
		m.loses(fate{})
		m.delivers(a)
		m.locked(func() { m.encrypt = true })
		require.Equal(t, []error{nil}, m.delivers(l.again(a)))
		dict, err := wire.Layout{}.Decode("", m.content(""))
		require.NoError(t, err)
		require.Equal(t, "$sealed0", dict.Entries["a"].Pointer)
		require.Equal(t, l.first["a"].At, dict.Write.Keys["a"])
	})
	scene(t, "stamps that don't fit go out later, and none is left out", func(t *testing.T) {
		m, l := journaled(t, wire.Layout{}, map[string]string{"": `{}`})
		var changes []commit.Change
		for i := range 200 {
			changes = append(changes, set(fmt.Sprintf("key%d", i), "1"))
		}
		m.loses(fate{})
		m.delivers(changes...)
		m.locked(func() { m.limit = 7000 })
		m.did()
		var again []commit.Change
		for _, c := range changes {
			again = append(again, l.again(c))
		}
		from := len(m.log)
		require.Equal(t, make([]error, 200), m.delivers(again...))
		stamped := make(map[string]bool)
		for _, e := range m.log[from:] {
			require.LessOrEqual(t, wire.CanonicalSize(e.Content), 7000)
			dict, err := wire.Layout{}.Decode("", e.Content)
			require.NoError(t, err)
			for key, at := range dict.Write.Keys {
				stamped[key] = true
				require.Equal(t, l.first[key].At, at)
			}
		}
		require.Len(t, stamped, 200)
		require.Less(t, puts(m.did()), 10)
	})
}

// Where many changes were made since, the last events don't tell whether a change arrived that was
// sent before them: the history does.
func TestSentLongBefore(t *testing.T) {
	play := func(t *testing.T, arrives, changed bool) (m *memory, l *ledger) {
		m, l = journaled(t, wire.Layout{}, map[string]string{"": `{}`})
		m.loses(fate{stored: arrives})
		require.ErrorIs(t, m.delivers(set("a", "1"))[0], commit.ErrUnknownOutcome)
		other := m.join("@other:x")
		other.opens(t)
		if changed {
			other.submit(t, set("a", "2"))
		} else {
			other.submit(t, set("a", "0"), set("b", "0"))
		}
		for i := range 60 {
			other.syncs()
			other.submit(t, set(fmt.Sprintf("key%d", i), "1"))
		}
		other.syncs()
		dict, err := wire.Layout{}.Decode("", m.content(""))
		require.NoError(t, err)
		require.NotContains(t, dict.Write.Keys, "a")
		m = m.join("@bot:x")
		first := l.first
		l = m.journals()
		l.first = first
		m.room.Reached(first["a"].At.Depth)
		return m, l
	}
	scene(t, "it was heard of and changed", func(t *testing.T) {
		m, l := play(t, true, true)
		m.opens(t)
		require.Equal(t, []error{commit.ErrSuperseded}, m.delivers(l.again(set("a", "1"))))
		require.Zero(t, puts(m.did()))
		m.remembersUnder(t, "a", "2")
	})
	scene(t, "it never arrived, and an earlier stamp is known", func(t *testing.T) {
		m, l := play(t, false, false)
		l.first["a"].At.Depth = 5000 // later than what the other one wrote
		m.opens(t)
		require.Equal(t, []error{nil}, m.delivers(l.again(set("a", "1"))))
		m.remembersUnder(t, "a", "1")
	})
	scene(t, "it never arrived, and what is known of the key is as of a floor", func(t *testing.T) {
		m, l := play(t, false, false)
		l.first["a"].At.Depth = 120 // below the floor of the last event, and above what is in the history
		m.opens(t)
		m.did()
		require.Equal(t, []error{nil}, m.delivers(l.again(set("a", "1"))))
		require.Equal(t, []string{"load", "note", "put"}, m.did())
		m.remembersUnder(t, "a", "1")
	})
	scene(t, "the history can't be had", func(t *testing.T) {
		m, l := play(t, false, false)
		l.first["a"].At.Depth = 120
		m.nearsighted = true
		m.opens(t)
		require.Equal(t, []error{commit.ErrSuperseded}, m.delivers(l.again(set("a", "1"))))
		m.remembersUnder(t, "a", "0")
	})
}

func TestDelivering(t *testing.T) {
	both(t, "a deletion of what somebody changed", func(t *testing.T, layout wire.Layout) {
		m, _ := journaled(t, layout, nil)
		m.submit(t, set("a", "0"), set("b", "0"), set("c", "0"))
		a, b, c := del("a"), del("b"), del("c")
		a.Over, b.Over, c.Over = m.room.Held("a"), m.room.Held("b"), m.room.Held("c")
		b.Forced = true
		m.syncs()
		m.writes("a", "1")
		m.writes("b", "1")
		m.syncs()
		require.Equal(t, []error{commit.ErrSuperseded, nil, nil}, m.delivers(a, b, c))
		m.syncs()
		m.holds(t, `{"a":1}`)
	})
	both(t, "a deletion of what is gone costs nothing", func(t *testing.T, layout wire.Layout) {
		m, _ := journaled(t, layout, nil)
		m.submit(t, set("a", "0"))
		a := del("a")
		a.Over = m.room.Held("a")
		m.submit(t, del("a"))
		m.did()
		require.Equal(t, []error{nil}, m.delivers(a))
		require.Empty(t, m.did())
	})
	both(t, "a deletion after an own write that may still arrive", func(t *testing.T, layout wire.Layout) {
		m, _ := journaled(t, layout, nil)
		m.submit(t, set("a", "0"))
		m.loses(fate{late: true})
		_, err := m.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, commit.ErrUnknownOutcome)
		a := del("a")
		a.Over = m.room.Held("a")
		m.server.deliver()
		m.syncs()
		require.Equal(t, []error{nil}, m.delivers(a))
		m.syncs()
		m.holds(t, `{}`)
	})
	both(t, "a room that can't be read", func(t *testing.T, layout wire.Layout) {
		m, _ := journaled(t, layout, nil)
		m.missed()
		m.loaded(func(context.Context) error { return errNoReply })
		err := m.delivers(set("a", "1"))[0]
		require.ErrorIs(t, err, errNoReply)
		require.NotErrorIs(t, err, commit.ErrRefused)
		m.room.Forget()
		require.ErrorIs(t, m.delivers(set("a", "1"))[0], replica.ErrNotLoaded)
	})
}

// Where the homeserver limits how much is sent, a delivery is held back as long as nobody waits.
func TestADeliveryThatIsHeldBack(t *testing.T) {
	begin := func(t *testing.T, layout wire.Layout, idle context.Context, changes ...commit.Change) (*memory, *ledger, chan []error) {
		m, l := journaled(t, layout, nil)
		m.locked(func() { m.held = make(chan struct{}) })
		results := make(chan []error, 1)
		go func() { results <- m.queue.Deliver(context.Background(), idle, changes...) }()
		synctest.Wait()
		require.Equal(t, []string{"held"}, m.did())
		return m, l, results
	}
	scene(t, "goes along with a write", func(t *testing.T) {
		m, _, results := begin(t, wire.Layout{}, context.Background(), set("a", "1"), set("b", "1"))
		begun := time.Now()
		m.submit(t, set("b", "2"))
		require.Equal(t, []error{nil, nil}, <-results)
		require.Zero(t, time.Since(begun))
		require.Equal(t, []string{"note", "put"}, m.did())
		m.holds(t, `{"a":1,"b":2}`)
	})
	scene(t, "lets a write go first, and gives way once", func(t *testing.T) {
		m, _, results := begin(t, wire.Layout{PerKey: true}, context.Background(), set("a", "1"))
		begun := time.Now()
		m.submit(t, set("b", "2"))
		require.Equal(t, []error{nil}, <-results)
		require.Zero(t, time.Since(begun))
		require.Equal(t, []string{"note", "put", "note", "put"}, m.did())
		m.server.mu.Lock()
		require.Equal(t, "b", m.log[0].StateKey)
		m.server.mu.Unlock()
		m.holds(t, `{"a":1,"b":2}`)
	})
	scene(t, "has its turn between steady writes", func(t *testing.T) {
		var changes []commit.Change
		for i := range 100 {
			changes = append(changes, set(fmt.Sprint("key", i), "1"))
		}
		m, _, results := begin(t, wire.Layout{PerKey: true}, context.Background(), changes...)
		for i := range 50 {
			m.submit(t, set("written", fmt.Sprint(i)))
			passes(time.Second)
		}
		puts := 0
		for _, what := range m.did() {
			if what == "put" {
				puts++
			}
		}
		require.Equal(t, 100, puts, "each write lets one change of the journal through")
		passes(time.Minute)
		delivered := 0
		for _, err := range <-results {
			if err == nil {
				delivered++
			} else {
				require.NotErrorIs(t, err, commit.ErrRefused)
			}
		}
		require.Equal(t, 50, delivered)
	})
	both(t, "is to be delivered again once the time is over, and was not attempted", func(t *testing.T, layout wire.Layout) {
		m, l, results := begin(t, layout, context.Background(), set("a", "1"), set("b", "1"))
		begun := time.Now()
		for _, err := range <-results {
			require.Error(t, err)
			require.NotErrorIs(t, err, commit.ErrRefused)
		}
		require.Equal(t, m.timeout, time.Since(begun))
		require.Empty(t, l.noted)
		require.NotContains(t, m.did(), "put")
	})
	both(t, "is to be delivered again at once where somebody waits for it", func(t *testing.T, layout wire.Layout) {
		idle, wanted := context.WithCancel(context.Background())
		m, l, results := begin(t, layout, idle, set("a", "1"), set("b", "1"))
		begun := time.Now()
		wanted()
		require.ErrorIs(t, (<-results)[0], errGaveWay)
		require.Zero(t, time.Since(begun))
		require.Empty(t, l.noted)
		require.Equal(t, []error{nil, nil}, m.queue.Deliver(context.Background(), nil, set("a", "1"), set("b", "1")))
		m.holds(t, `{"a":1,"b":1}`)
	})
	both(t, "does not keep Close waiting", func(t *testing.T, layout wire.Layout) {
		m, _, results := begin(t, layout, context.Background(), set("a", "1"))
		begun := time.Now()
		m.queue.Close(context.Background())
		require.Error(t, (<-results)[0])
		require.Zero(t, time.Since(begun))
	})
}
