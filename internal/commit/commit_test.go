package commit_test

import (
	"context"
	"encoding/json"
	"fmt"
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

func TestWriters(t *testing.T) {
	scene(t, "are committed together", func(t *testing.T) {
		m := start(t, `{}`)
		var writes [][]commit.Change
		want := map[string]int{"opener": 0}
		for i := range 200 {
			key := fmt.Sprintf("key%d", i)
			writes = append(writes, []commit.Change{set(key, fmt.Sprint(i))})
			want[key] = i
		}
		for _, result := range m.together(writes...) {
			require.NoError(t, result.err)
		}
		require.Equal(t, []string{"put"}, m.did())
		text, _ := json.Marshal(want)
		m.holds(t, string(text))
	})
	scene(t, "learn how many keys they deleted", func(t *testing.T) {
		m := start(t, `{"a":1,"b":2}`)
		existed, err := m.queue.Submit(context.Background(), del("a"), del("a"), del("b"), del("c"))
		require.NoError(t, err)
		require.Equal(t, 2, existed)
		require.Equal(t, []string{"put"}, m.did())
	})
	scene(t, "build upon what others wrote meanwhile", func(t *testing.T) {
		m := start(t, `{"a":1}`)
		m.writes("theirs", "1")
		m.foreign("foreign", "1")
		m.syncs()
		m.submit(t, set("mine", "1"), del("a"))
		require.Equal(t, []string{"put"}, m.did())
		m.holds(t, `{"theirs":1,"foreign":1,"mine":1}`)
	})
}

func TestAnErrorIsOnlyItsCallers(t *testing.T) {
	scene(t, "the homeserver refuses one value", func(t *testing.T) {
		m := start(t, `{"old":1,"bad":0}`)
		m.fates(func(_ context.Context, content json.RawMessage) fate {
			if strings.Contains(string(content), "poison") {
				return fate{outcome: commit.Invalid}
			}
			return fate{outcome: commit.Stored}
		})
		results := m.together(
			[]commit.Change{set("a", "1")},
			[]commit.Change{set("bad", `"poison"`), del("old")},
			[]commit.Change{del("old")},
			[]commit.Change{del("old")})
		require.NoError(t, results[0].err)
		require.ErrorIs(t, results[1].err, errInvalid)
		require.Zero(t, results[1].existed)
		require.Equal(t, []result{{1, nil}, {0, nil}}, results[2:])
		m.holds(t, `{"a":1,"bad":0,"opener":0}`)
	})
	scene(t, "the homeserver refuses all", func(t *testing.T) {
		m := start(t, `{"a":0}`)
		m.fates(refuses)
		existed, err := m.queue.Submit(context.Background(), del("a"))
		require.ErrorIs(t, err, errRefused)
		require.Zero(t, existed, "nothing was deleted")
		m.holds(t, `{"a":0}`)
	})
	scene(t, "what is unreadable is not overwritten, but deleted", func(t *testing.T) {
		m := start(t, `{"a":{"dev.joe.future":1}}`)
		_, err := m.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, commit.ErrUnreadable)
		require.Empty(t, m.did())
		existed, err := m.queue.Submit(context.Background(), del("a"))
		require.NoError(t, err)
		require.Equal(t, 1, existed)
		m.holds(t, `{}`)
	})
	scene(t, "nothing is written upon what is no dictionary", func(t *testing.T) {
		m := start(t, `[]`)
		_, err := m.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, wire.ErrMalformed)
		require.Empty(t, m.did())
	})
	scene(t, "an event of somebody else's is left alone", func(t *testing.T) {
		m := serve(wire.Layout{PerKey: true}, map[string]string{"a": `{"theirs":1,"too":2}`})
		m.opens(t)
		results := m.together([]commit.Change{set("a", "1")}, []commit.Change{del("a")})
		require.ErrorIs(t, results[0].err, wire.ErrForeign)
		require.Equal(t, result{0, nil}, results[1], "nothing of the memory's stands there")
		require.Empty(t, m.did())
	})
	scene(t, "state events fail one by one", func(t *testing.T) {
		m := serve(wire.Layout{PerKey: true}, map[string]string{"a": `{"a":1}`, "b": `{"b":1}`})
		m.opens(t)
		first := true
		m.fates(func(context.Context, json.RawMessage) fate {
			defer func() { first = false }()
			if first {
				return fate{outcome: commit.Refused}
			}
			return fate{outcome: commit.Stored}
		})
		existed, err := m.queue.Submit(context.Background(), del("a"), del("b"), del("c"))
		require.ErrorIs(t, err, errRefused)
		require.Equal(t, 1, existed, "those that are gone are counted")
		m.holds(t, `{"a":1}`)
	})
}

func TestUnknownOutcomes(t *testing.T) {
	for name, f := range map[string]fate{
		"stored":       {outcome: commit.Unknown, stored: true},
		"stored later": {outcome: commit.Unknown, late: true},
		"never stored": {outcome: commit.Unknown},
	} {
		scene(t, name, func(t *testing.T) {
			m := start(t, `{"o":0}`)
			m.fates(func(context.Context, json.RawMessage) fate {
				m.fates(nil)
				return f
			})
			_, err := m.queue.Submit(context.Background(), set("a", "1"))
			require.ErrorIs(t, err, commit.ErrUnknownOutcome)
			require.ErrorIs(t, err, errNoReply)
			synctest.Wait()
			require.Equal(t, []string{"put", "ask"}, m.did())
			if f.stored {
				m.remembers(t, `{"a":1,"o":0}`)
			} else {
				m.remembers(t, `{"o":0}`)
			}
			m.submit(t, set("b", "1"))
			require.Equal(t, []string{"put"}, m.did())
			m.deliver()
			m.syncs()
			passes(10 * time.Second)
			m.syncs()
			if f.stored || f.late {
				m.holds(t, `{"a":1,"b":1,"o":0}`)
			} else {
				m.holds(t, `{"b":1,"o":0}`)
			}
		})
	}
	for _, layout := range []wire.Layout{{}, {PerKey: true}} {
		for name, first := range map[string]fate{
			"a request that nobody knows of any more comes late": {outcome: commit.Unknown, late: true},
			"a request comes once more, late":                    {outcome: commit.Repeated, late: true},
		} {
			scene(t, fmt.Sprintf("%s (per key %v)", name, layout.PerKey), func(t *testing.T) {
				m := serve(layout, nil)
				m.opens(t)
				m.fates(func(context.Context, json.RawMessage) fate {
					m.fates(nil)
					return first
				})
				_, _ = m.queue.Submit(context.Background(), set("a", "1")) // its outcome is as the name says
				m.submit(t, set("a", "2"))
				require.True(t, m.deliver())
				m.syncs()
				m.remembers(t, `{"a":2}`)
				passes(10 * time.Second)
				m.holds(t, `{"a":2}`)
			})
		}
	}
}

// Where events may have been missed, they are read before anything is written.
func TestNothingIsSentUponWhatIsNotKnown(t *testing.T) {
	scene(t, "after a gap", func(t *testing.T) {
		m := start(t, `{"o":0}`)
		m.writes("theirs", "1")
		m.room.Missed()
		m.submit(t, set("a", "1"))
		require.Equal(t, []string{"load", "put"}, m.did())
		m.holds(t, `{"a":1,"o":0,"theirs":1}`)
	})
	scene(t, "after a gap that can't be looked into", func(t *testing.T) {
		m := start(t, `{"o":0}`)
		m.loaded(func(context.Context) error { return errNoReply })
		m.room.Missed()
		_, err := m.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, errNoReply)
		require.NotErrorIs(t, err, commit.ErrUnknownOutcome)
		require.NotContains(t, m.did(), "put")
		m.holds(t, `{"o":0}`)
	})
	scene(t, "the room was left", func(t *testing.T) {
		m := start(t, `{"o":0}`)
		m.room.Forget()
		_, err := m.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, replica.ErrNotLoaded)
		require.Empty(t, m.did(), "the dictionary is not overwritten by an empty one")
	})
}

// Two keys that stood under one state key part while a write of both waits: opsdroid, whose
// request puts "." under "", has put it there.
func TestKeysThatPart(t *testing.T) {
	scene(t, "both are stored", func(t *testing.T) {
		m := serve(wire.Layout{PerKey: true}, map[string]string{"": `{}`, wire.StateKey(""): `{}`})
		m.opens(t)
		m.store("@opsdroid:x", "", json.RawMessage(`{".":5}`))
		m.room.Missed()
		existed, err := m.queue.Submit(context.Background(), set("", "1"), set(".", "2"), del("."), set(".", "3"))
		require.NoError(t, err)
		require.Equal(t, 1, existed)
		m.syncs()
		m.holds(t, `{"":1,".":3}`)
		require.JSONEq(t, `{".":3}`, string(m.content("")))
	})
	scene(t, "one of them is refused", func(t *testing.T) {
		m := serve(wire.Layout{PerKey: true}, map[string]string{"": `{}`, wire.StateKey(""): `{}`})
		m.opens(t)
		m.store("@opsdroid:x", "", json.RawMessage(`{".":5}`))
		m.room.Missed()
		m.fates(func(_ context.Context, content json.RawMessage) fate {
			if strings.Contains(string(content), `"."`) {
				return fate{outcome: commit.Refused}
			}
			return fate{outcome: commit.Stored}
		})
		_, err := m.queue.Submit(context.Background(), set("", "1"), set(".", "2"))
		require.ErrorIs(t, err, errRefused)
		m.syncs()
		m.holds(t, `{"":1,".":5}`)
	})
}

// Per key, what another program has put beside a key goes with it, as opsdroid deletes; what
// stayed would be nobody's, and the key could not be set again.
func TestDeletedBesideOthers(t *testing.T) {
	scene(t, "a key among other members", func(t *testing.T) {
		m := serve(wire.Layout{PerKey: true}, map[string]string{"a": `{"a":1,"b":2}`})
		m.opens(t)
		existed, err := m.queue.Submit(context.Background(), del("a"))
		require.NoError(t, err)
		require.Equal(t, 1, existed)
		m.syncs()
		require.JSONEq(t, `{}`, string(m.content("a")))
		m.opens(t)
		m.submit(t, set("a", "2"))
		m.holds(t, `{"a":2}`)
	})
}

// What changes nothing, as far as the memory knows, is asked for once.
func TestWhatIsThereAlready(t *testing.T) {
	scene(t, "costs no PUT", func(t *testing.T) {
		m := start(t, `{"a":{"x":1,"y":[2]},"b":{"dev.joe.json":"1.5"}}`)
		existed, err := m.queue.Submit(context.Background(), set("a", ` { "y" : [2], "x":1 }`), set("b", "1.5"), del("c"))
		require.NoError(t, err)
		require.Zero(t, existed)
		require.Equal(t, []string{"ask"}, m.did())
		m.submit(t)
		require.Empty(t, m.did())
	})
	scene(t, "is asked for once for all who wait", func(t *testing.T) {
		m := start(t, `{"a":1,"opener":1}`)
		for _, result := range m.together([]commit.Change{set("a", "1")}, []commit.Change{set("a", "1")}, []commit.Change{del("c")}) {
			require.NoError(t, result.err)
		}
		require.Equal(t, []string{"ask"}, m.did())
	})
	for _, layout := range []wire.Layout{{}, {PerKey: true}} {
		perKey := fmt.Sprintf(" (per key %v)", layout.PerKey)
		start := func(t *testing.T) *memory {
			m := serve(layout, nil)
			m.opens(t)
			m.submit(t, set("a", "1"))
			m.syncs()
			m.did()
			return m
		}
		scene(t, "is written where somebody has changed it"+perKey, func(t *testing.T) {
			m := start(t)
			m.writes("a", "2")
			m.submit(t, set("a", "1"))
			require.Contains(t, m.did(), "put")
			m.syncs()
			m.holds(t, `{"a":1}`)
		})
		scene(t, "is written where a fork has taken it away"+perKey, func(t *testing.T) {
			m := start(t)
			m.fork("a", "2")
			m.submit(t, set("a", "1"))
			require.Contains(t, m.did(), "put")
			m.syncs()
			m.holds(t, `{"a":1}`)
		})
		scene(t, "a key that somebody has just set is deleted"+perKey, func(t *testing.T) {
			m := start(t)
			m.writes("b", "2")
			existed, err := m.queue.Submit(context.Background(), del("b"))
			require.NoError(t, err)
			require.Equal(t, 1, existed)
			m.syncs()
			m.holds(t, `{"a":1}`)
		})
		scene(t, "is not acknowledged if it can't be asked for"+perKey, func(t *testing.T) {
			m := start(t)
			m.asked(func(context.Context) error { return errNoReply })
			_, err := m.queue.Submit(context.Background(), set("a", "1"))
			require.ErrorIs(t, err, errNoReply)
			require.NotErrorIs(t, err, commit.ErrUnknownOutcome)
			require.Equal(t, []string{"ask"}, m.did())
		})
		scene(t, "nothing is sent for those whose time is up by then"+perKey, func(t *testing.T) {
			m := start(t)
			m.writes("a", "2")
			m.asked(func(context.Context) error {
				time.Sleep(2 * time.Second) // on the scene's clock
				return nil
			})
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_, err := m.queue.Submit(ctx, set("a", "1"))
			require.ErrorIs(t, err, commit.ErrNotSent)
			passes(10 * time.Second)
			require.NotContains(t, m.did(), "put")
			m.syncs()
			m.holds(t, `{"a":2}`)
		})
	}
}

func TestDeadlines(t *testing.T) {
	scene(t, "of one whose write is under way, and of one that waits", func(t *testing.T) {
		m := serve(wire.Layout{}, nil)
		m.timeout = 50 * time.Millisecond
		m.opens(t)
		m.fates(func(context.Context, json.RawMessage) fate {
			time.Sleep(time.Second) // on the scene's clock: it hears of no deadline
			return fate{outcome: commit.Unknown}
		})
		var inFlight, queued error
		var submitting sync.WaitGroup
		submitting.Go(func() { _, inFlight = m.queue.Submit(context.Background(), set("a", "1")) })
		synctest.Wait()
		submitting.Go(func() { _, queued = m.queue.Submit(context.Background(), set("b", "1")) })
		submitting.Wait()
		require.ErrorIs(t, inFlight, commit.ErrUnknownOutcome)
		require.ErrorIs(t, queued, commit.ErrNotSent)
		passes(time.Minute)
		require.Equal(t, []string{"put", "ask"}, m.did(), "what became of the first is asked for")
	})
	scene(t, "the others' write goes on", func(t *testing.T) {
		m := serve(wire.Layout{}, nil)
		m.opens(t)
		opener, both := m.gate(), (*gate)(nil)
		var short, long error
		var submitting sync.WaitGroup
		submitting.Go(func() { m.queue.Submit(context.Background(), set("opener", "0")) })
		<-opener.entered
		submitting.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_, short = m.queue.Submit(ctx, set("a", "1"))
		})
		submitting.Go(func() { _, long = m.queue.Submit(context.Background(), set("b", "1")) })
		passes(0)
		both = m.gate()
		close(opener.open)
		<-both.entered
		passes(2 * time.Second)
		close(both.open)
		submitting.Wait()
		require.ErrorIs(t, short, commit.ErrUnknownOutcome)
		require.NoError(t, long)
		m.holds(t, `{"a":1,"b":1,"opener":0}`)
	})
}
