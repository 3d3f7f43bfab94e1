package commit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/wire"
)

func TestWritersAreCommittedTogether(t *testing.T) {
	s := start(t, `{}`)
	var writes [][]commit.Change
	want := map[string]int{"opener": 0}
	for i := range 200 {
		key := fmt.Sprintf("key%d", i)
		writes = append(writes, []commit.Change{set(key, fmt.Sprint(i))})
		want[key] = i
	}
	for _, result := range s.together(t, writes...) {
		require.NoError(t, result.err)
	}
	require.Equal(t, []string{"put"}, s.did())
	text, _ := json.Marshal(want)
	s.holds(t, string(text))
}

func TestAnErrorIsOnlyItsCallers(t *testing.T) {
	t.Run("the homeserver refuses one value", func(t *testing.T) {
		s := start(t, `{"old":1,"bad":0}`)
		s.fault = func(_ context.Context, content json.RawMessage) (commit.Outcome, bool) {
			if strings.Contains(string(content), "poison") {
				return commit.Invalid, false
			}
			return commit.Stored, true
		}
		results := s.together(t,
			[]commit.Change{set("a", "1")},
			[]commit.Change{set("bad", `"poison"`), del("old")},
			[]commit.Change{del("old")},
			[]commit.Change{del("old")})
		require.NoError(t, results[0].err)
		require.ErrorIs(t, results[1].err, errInvalid)
		require.Zero(t, results[1].existed)
		require.Equal(t, []result{{1, nil}, {0, nil}}, results[2:])
		s.holds(t, `{"a":1,"bad":0,"opener":0}`)
	})
	t.Run("the homeserver refuses all", func(t *testing.T) {
		s := start(t, `{"a":0}`)
		s.fault = func(context.Context, json.RawMessage) (commit.Outcome, bool) { return commit.Refused, false }
		existed, err := s.queue.Submit(context.Background(), del("a"))
		require.ErrorIs(t, err, errRefused)
		require.Zero(t, existed, "nothing was deleted")
		s.holds(t, `{"a":0}`)
	})
	t.Run("a value is too large", func(t *testing.T) {
		s := start(t, `{}`)
		s.limit = 100
		large := `"` + strings.Repeat("x", 100) + `"`
		results := s.together(t, []commit.Change{set("a", "1")}, []commit.Change{set("b", "1"), set("large", large)}, []commit.Change{set("c", "1")})
		require.NoError(t, results[0].err)
		require.NoError(t, results[2].err)
		require.ErrorIs(t, results[1].err, commit.ErrTooLarge)
		require.Equal(t, []string{"put"}, s.did())
		s.holds(t, `{"a":1,"c":1,"opener":0}`)
	})
	t.Run("a dictionary is too large", func(t *testing.T) {
		s := start(t, `{"old":"`+strings.Repeat("x", 100)+`"}`)
		s.limit = 50
		_, err := s.queue.Submit(context.Background(), set("a", "1"))
		var tooLarge *commit.TooLargeError
		require.ErrorAs(t, err, &tooLarge)
		require.Equal(t, &commit.TooLargeError{Size: len(`{"a":1,"old":""}`) + 100, Limit: 50, Keys: 2}, tooLarge)
		require.Empty(t, s.did())
		_, err = s.queue.Submit(context.Background(), set("old", "1"))
		require.NoError(t, err, "what makes it smaller is let through")
	})
	t.Run("what is unreadable is not overwritten, but deleted", func(t *testing.T) {
		s := start(t, `{"a":{"dev.joe.future":1}}`)
		_, err := s.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, commit.ErrUnreadable)
		require.Empty(t, s.did())
		existed, err := s.queue.Submit(context.Background(), del("a"))
		require.NoError(t, err)
		require.Equal(t, 1, existed)
		s.holds(t, `{}`)
	})
	t.Run("state events fail one by one", func(t *testing.T) {
		s := serve(t, wire.Layout{PerKey: true}, []replica.Event{
			{ID: "$a", StateKey: "a", Content: json.RawMessage(`{"a":1}`)},
			{ID: "$b", StateKey: "b", Content: json.RawMessage(`{"b":1}`)},
		}, nil)
		s.opens(t)
		first := true
		s.fault = func(context.Context, json.RawMessage) (commit.Outcome, bool) {
			defer func() { first = false }()
			if first {
				return commit.Refused, false
			}
			return commit.Stored, true
		}
		existed, err := s.queue.Submit(context.Background(), del("a"), del("b"), del("c"))
		require.ErrorIs(t, err, errRefused)
		require.Equal(t, 1, existed, "those that are gone are counted")
		s.holds(t, `{"a":1}`)
	})
}

func TestEqualValuesCostNothing(t *testing.T) {
	s := start(t, `{"a":{"x":1,"y":[2]},"b":{"dev.joe.json":"1.5"}}`)
	existed, err := s.queue.Submit(context.Background(), set("a", ` { "y" : [2], "x":1 }`), set("b", "1.5"), del("c"))
	require.NoError(t, err)
	require.Zero(t, existed)
	_, err = s.queue.Submit(context.Background())
	require.NoError(t, err)
	require.Empty(t, s.did())
}

func TestDeleteCounts(t *testing.T) {
	s := start(t, `{"a":1,"b":2}`)
	existed, err := s.queue.Submit(context.Background(), del("a"), del("a"), del("b"), del("c"))
	require.NoError(t, err)
	require.Equal(t, 2, existed)
	require.Equal(t, []string{"put"}, s.did())
}

func TestUnknownOutcomes(t *testing.T) {
	for _, stored := range []bool{true, false} {
		t.Run(fmt.Sprintf("stored %v", stored), func(t *testing.T) {
			s := start(t, `{"o":0}`)
			s.fault = func(context.Context, json.RawMessage) (commit.Outcome, bool) {
				s.fault = nil
				return commit.Unknown, stored
			}
			_, err := s.queue.Submit(context.Background(), set("a", "1"))
			require.ErrorIs(t, err, commit.ErrUnknownOutcome)
			require.ErrorIs(t, err, errNoReply)
			_, err = s.queue.Submit(context.Background(), set("b", "1"))
			require.NoError(t, err)
			require.Equal(t, []string{"put", "read", "put"}, s.did())
			if stored {
				s.holds(t, `{"a":1,"b":1,"o":0}`)
			} else {
				s.holds(t, `{"b":1,"o":0}`)
			}
		})
	}
	t.Run("nothing is sent before the event could be read again", func(t *testing.T) {
		s := start(t, `{"o":0}`)
		s.fault = func(context.Context, json.RawMessage) (commit.Outcome, bool) { return commit.Unknown, false }
		s.readErr = func() error { return errNoReply }
		_, err := s.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, commit.ErrUnknownOutcome)
		_, err = s.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, errNoReply)
		require.NotErrorIs(t, err, commit.ErrUnknownOutcome)
		require.NotContains(t, s.did()[1:], "put")
		s.holds(t, `{"o":0}`)
	})
	t.Run("the room was left", func(t *testing.T) {
		s := start(t, `{"o":0}`)
		s.room.Forget()
		_, err := s.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, replica.ErrNotLoaded)
		require.Empty(t, s.did(), "the dictionary is not overwritten by an empty one")
	})
}

func TestDeadlines(t *testing.T) {
	s := serve(t, wire.Layout{}, nil, nil)
	g := s.gate()
	s.open(50 * time.Millisecond)
	var inFlight, queued error
	var submitting sync.WaitGroup
	submitting.Go(func() { _, inFlight = s.queue.Submit(context.Background(), set("a", "1")) })
	<-g.entered
	block := make(chan struct{})
	s.readErr = func() error { <-block; return nil } // the worker is kept busy after the deadline
	submitting.Go(func() { _, queued = s.queue.Submit(context.Background(), set("b", "1")) })
	submitting.Wait()
	close(block)
	s.queue.Close(context.Background())
	require.ErrorIs(t, inFlight, commit.ErrUnknownOutcome)
	require.ErrorIs(t, queued, commit.ErrNotSent)
	s.holds(t, `{}`)
}

func TestClose(t *testing.T) {
	t.Run("accepted writes are finished, new ones refused", func(t *testing.T) {
		s := start(t, `{}`)
		g := s.gate()
		var first, second error
		var submitting sync.WaitGroup
		submitting.Go(func() { _, first = s.queue.Submit(context.Background(), set("a", "1")) })
		<-g.entered
		submitting.Go(func() { _, second = s.queue.Submit(context.Background(), set("b", "1")) })
		require.Eventually(t, func() bool { return commit.Pending(s.queue) == 1 }, 5*time.Second, time.Millisecond)
		submitting.Go(func() { s.queue.Close(context.Background()) })
		require.Eventually(t, func() bool { return commit.Closed(s.queue) }, 5*time.Second, time.Millisecond)
		_, err := s.queue.Submit(context.Background(), set("c", "1"))
		require.ErrorIs(t, err, commit.ErrClosed)
		close(g.open)
		submitting.Wait()
		require.NoError(t, first)
		require.NoError(t, second)
		s.queue.Wake()
		s.holds(t, `{"a":1,"b":1}`)
	})
	t.Run("no longer than the context allows", func(t *testing.T) {
		s := start(t, `{}`)
		g := s.gate()
		var first, second error
		var submitting sync.WaitGroup
		submitting.Go(func() { _, first = s.queue.Submit(context.Background(), set("a", "1")) })
		<-g.entered
		submitting.Go(func() { _, second = s.queue.Submit(context.Background(), set("b", "1")) })
		require.Eventually(t, func() bool { return commit.Pending(s.queue) == 1 }, 5*time.Second, time.Millisecond)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.queue.Close(ctx)
		submitting.Wait()
		require.ErrorIs(t, first, commit.ErrUnknownOutcome)
		require.ErrorIs(t, second, commit.ErrNotSent)
		require.NotContains(t, s.did()[1:], "put")
	})
}

func TestSealing(t *testing.T) {
	start := func(t *testing.T, content string) *server {
		s := serve(t, wire.Layout{}, []replica.Event{{ID: "$first", Content: json.RawMessage(content)}}, nil)
		s.encrypt = true
		return s
	}
	t.Run("values share an event, and one that is known costs nothing", func(t *testing.T) {
		s := start(t, `{}`)
		s.opens(t)
		_, err := s.queue.Submit(context.Background(), set("a", "1.5"), set("b", `{"x":1,"y":2}`))
		require.NoError(t, err)
		require.Equal(t, []string{"seal", "put"}, s.did())
		require.JSONEq(t, `{"a":1.5,"b":{"x":1,"y":2}}`, string(s.sealed["$sealed0"]))
		s.holds(t, `{"a":{"encrypted_val":"$sealed0"},"b":{"encrypted_val":"$sealed0"}}`)

		_, err = s.queue.Submit(context.Background(), set("b", `{"y": 2, "x": 1}`))
		require.NoError(t, err)
		require.Len(t, s.did(), 2)

		_, err = s.queue.Submit(context.Background(), del("a"))
		require.NoError(t, err)
		for s.sync() {
		}
		s.settles(t)
		require.Empty(t, s.removed, "b still stands there")
		_, err = s.queue.Submit(context.Background(), set("b", "2"))
		require.NoError(t, err)
		s.settles(t)
		require.Empty(t, s.removed, "another writer may not know yet that a is gone")
		for s.sync() {
		}
		s.settles(t)
		require.Equal(t, []string{"$sealed0"}, s.removed)
	})
	t.Run("an overwritten value stays in the room, for another writer may bring its pointer back", func(t *testing.T) {
		s := start(t, `{}`)
		s.opens(t)
		for _, value := range []string{"1", "2"} {
			_, err := s.queue.Submit(context.Background(), set("a", value))
			require.NoError(t, err)
		}
		for s.sync() {
		}
		s.queue.Close(context.Background())
		require.Equal(t, []string{"seal", "put", "seal", "put"}, s.did())
		require.Empty(t, s.removed)
	})
	t.Run("a deleted value whose pointer another writer brings back stays", func(t *testing.T) {
		s := start(t, `{}`)
		s.opens(t)
		_, err := s.queue.Submit(context.Background(), set("a", "1"))
		require.NoError(t, err)
		for s.sync() {
		}
		stale := s.content("")
		_, err = s.queue.Submit(context.Background(), del("a"))
		require.NoError(t, err)
		s.store("", stale)
		for s.sync() {
		}
		s.queue.Close(context.Background())
		require.Empty(t, s.removed)
	})
	t.Run("a value is not sent in the clear once the room is encrypted", func(t *testing.T) {
		s := serve(t, wire.Layout{}, nil, nil)
		s.fault = func(context.Context, json.RawMessage) (commit.Outcome, bool) {
			if !s.encrypt {
				s.encrypt = true // meanwhile
				return commit.Outdated, false
			}
			return commit.Stored, true
		}
		s.opens(t)
		_, err := s.queue.Submit(context.Background(), set("a", "1"))
		require.NoError(t, err)
		s.holds(t, `{"a":{"encrypted_val":"$sealed0"}}`)
	})
	t.Run("what this version can't read is not overwritten", func(t *testing.T) {
		s := start(t, `{"a":{"encrypted_val":"$new"}}`)
		s.sealed["$new"] = json.RawMessage(`{"a":{"dev.joe.future":1}}`)
		s.opens(t)
		_, err := s.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, commit.ErrUnreadable)
		require.Empty(t, s.did())
	})
	t.Run("as many as fit", func(t *testing.T) {
		s := start(t, `{}`)
		s.sealSize = 100
		s.opens(t)
		half := `"` + strings.Repeat("x", 50) + `"`
		_, err := s.queue.Submit(context.Background(), set("a", half), set("b", half), set("c", "1"))
		require.NoError(t, err)
		require.Equal(t, []string{"$sealed0", "$sealed1"}, sorted(s.sealed))
		for _, content := range s.sealed {
			require.LessOrEqual(t, len(content), s.sealSize)
		}
		_, err = s.queue.Submit(context.Background(), set("a", `"`+strings.Repeat("x", 100)+`"`))
		require.ErrorIs(t, err, commit.ErrTooLarge)
	})
	t.Run("what stands in the clear is encrypted when it is written again", func(t *testing.T) {
		s := start(t, `{"a":1}`)
		s.opens(t)
		_, err := s.queue.Submit(context.Background(), set("a", "1"))
		require.NoError(t, err)
		s.holds(t, `{"a":{"encrypted_val":"$sealed0"}}`)
	})
	t.Run("an event that nothing came to point at is given up", func(t *testing.T) {
		s := start(t, `{}`)
		s.opens(t)
		s.fault = func(context.Context, json.RawMessage) (commit.Outcome, bool) { return commit.Refused, false }
		_, err := s.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, errRefused)
		require.Equal(t, []string{"$sealed0"}, s.removed)
		s.holds(t, `{}`)
	})
	t.Run("an event that something may point at is kept", func(t *testing.T) {
		s := start(t, `{}`)
		s.opens(t)
		s.fault = func(context.Context, json.RawMessage) (commit.Outcome, bool) { return commit.Unknown, true }
		_, err := s.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, commit.ErrUnknownOutcome)
		require.Empty(t, s.removed)
	})
	t.Run("not possible", func(t *testing.T) {
		s := start(t, `{"a":{"encrypted_val":"$lost"}}`)
		s.denied = errRefused
		s.opens(t)
		_, err := s.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, errRefused)
		require.Empty(t, s.did(), "nothing goes out in the clear")
		_, err = s.queue.Submit(context.Background(), del("a"))
		require.NoError(t, err)
	})
}

func TestChores(t *testing.T) {
	t.Run("copies the older type once", func(t *testing.T) {
		s := serve(t, wire.Layout{}, nil, []replica.Event{{ID: "$old", Content: json.RawMessage(`{"a":1}`)}})
		s.opens(t)
		s.queue.Wake()
		require.Eventually(t, func() bool { return len(s.did()) == 1 }, 5*time.Second, time.Millisecond)
		s.queue.Close(context.Background())
		s.holds(t, `{"a":1}`)
	})
	t.Run("writes come before copying", func(t *testing.T) {
		var older []replica.Event
		for i := range 20 {
			key := fmt.Sprintf("old%d", i)
			older = append(older, replica.Event{ID: "$" + key, StateKey: key, Content: json.RawMessage(`{"v":1}`)})
		}
		s := serve(t, wire.Layout{PerKey: true}, nil, older)
		g := s.gate()
		s.opens(t)
		s.queue.Wake()
		<-g.entered // the first of them is being copied
		var err error
		var submitting sync.WaitGroup
		submitting.Go(func() { _, err = s.queue.Submit(context.Background(), set("new", "1")) })
		require.Eventually(t, func() bool { return commit.Pending(s.queue) == 1 }, 5*time.Second, time.Millisecond)
		close(g.open)
		submitting.Wait()
		require.NoError(t, err)
		s.queue.Close(context.Background())
		require.Equal(t, "new", s.log[1].StateKey)
		require.Len(t, s.log, 21)
	})
	t.Run("restores what an own write took away", func(t *testing.T) {
		s := start(t, `{}`)
		s.store("", json.RawMessage(`{"x":1}`))
		_, err := s.queue.Submit(context.Background(), set("a", "1"))
		require.NoError(t, err)
		for s.sync() {
		}
		s.queue.Close(context.Background())
		s.holds(t, `{"a":1,"x":1}`)
	})
	t.Run("does again later what fails", func(t *testing.T) {
		s := start(t, `{}`)
		fails := 2
		s.fault = func(_ context.Context, content json.RawMessage) (commit.Outcome, bool) {
			if fails > 0 && strings.Contains(string(content), "x") {
				fails--
				return commit.Refused, false
			}
			return commit.Stored, true
		}
		s.store("", json.RawMessage(`{"x":1}`))
		_, err := s.queue.Submit(context.Background(), set("a", "1"))
		require.NoError(t, err)
		for s.sync() {
		}
		require.Eventually(t, func() bool { return string(s.content("")) == `{"a":1,"x":1}` }, 30*time.Second, 10*time.Millisecond)
		s.queue.Close(context.Background())
		require.Len(t, s.failed, 1, "it is told once")
	})
	t.Run("tells what could not be done", func(t *testing.T) {
		s := serve(t, wire.Layout{}, nil, []replica.Event{{ID: "$old", Content: json.RawMessage(`{"a":1}`)}})
		s.fault = func(context.Context, json.RawMessage) (commit.Outcome, bool) { return commit.Refused, false }
		s.opens(t)
		s.queue.Wake()
		s.queue.Close(context.Background())
		require.Len(t, s.failed, 1)
		require.ErrorIs(t, s.failed[0], errRefused)
		s.remembers(t, `{"a":1}`)
	})
}
