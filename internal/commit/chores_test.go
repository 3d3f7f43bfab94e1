package commit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/wire"
)

func TestCopying(t *testing.T) {
	scene(t, "is done once", func(t *testing.T) {
		m := serve(wire.Layout{}, nil)
		m.older = older(map[string]string{"": `{"a":1}`})
		m.opens(t)
		passes(time.Hour)
		m.syncs()
		require.Equal(t, []string{"put"}, m.did())
		m.holds(t, `{"a":1}`)
	})
	scene(t, "lets writes go first", func(t *testing.T) {
		m := serve(wire.Layout{PerKey: true}, nil)
		contents := make(map[string]string)
		for i := range 20 {
			contents[fmt.Sprintf("old%d", i)] = `{"v":1}`
		}
		m.older = older(contents)
		g := m.gate()
		m.opens(t)
		<-g.entered // the first of them is being copied
		var submitting sync.WaitGroup
		submitting.Go(func() { m.submit(t, set("new", "1")) })
		synctest.Wait()
		close(g.open)
		submitting.Wait()
		synctest.Wait()
		require.Equal(t, "new", m.log[1].StateKey)
		require.Len(t, m.log, 21)
	})
	scene(t, "is left to a write that waits", func(t *testing.T) {
		m := serve(wire.Layout{}, nil)
		m.older = older(map[string]string{"": `{"a":1}`})
		m.opens(t)
		synctest.Wait()
		require.Equal(t, []string{"put"}, m.did())
	})
	scene(t, "is told of once if it can't be done, and done when it can", func(t *testing.T) {
		m := serve(wire.Layout{}, nil)
		m.older = older(map[string]string{"": `{"a":1}`})
		m.fates(refuses)
		m.opens(t)
		passes(time.Hour)
		require.Len(t, m.told(), 1)
		require.ErrorIs(t, m.told()[0], errRefused)
		m.remembers(t, `{"a":1}`)
		m.fates(nil)
		passes(10 * time.Minute)
		m.holds(t, `{"a":1}`)
		require.Len(t, m.told(), 1)
	})
}

func TestMending(t *testing.T) {
	scene(t, "is done at once by who wrote what stands there", func(t *testing.T) {
		m := start(t, `{}`)
		m.submit(t, set("a", "1"))
		m.fork("theirs", "1")
		m.submit(t, set("b", "1")) // that takes the other's key away
		m.syncs()
		m.holds(t, `{"a":1,"b":1,"theirs":1}`)
	})
	scene(t, "is left to others for a while", func(t *testing.T) {
		m := start(t, `{}`)
		m.submit(t, set("a", "1"))
		m.fork("theirs", "1")
		m.did()
		m.syncs()
		passes(900 * time.Millisecond)
		require.NotContains(t, m.did(), "put")
		m.remembers(t, `{"a":1,"theirs":1}`)
		passes(1200 * time.Millisecond)
		m.holds(t, `{"a":1,"theirs":1}`)
	})
	scene(t, "is left to others for a while each time", func(t *testing.T) {
		m := start(t, `{}`)
		m.fates(func(context.Context, json.RawMessage) fate { return fate{outcome: commit.Repeated, late: true} })
		m.submit(t, set("a", "1"))
		m.submit(t, set("a", "2"))
		m.fates(nil)
		m.submit(t, set("a", "3"))
		m.syncs()
		m.did()
		m.deliver()
		m.syncs()
		m.writes("b", "1") // it is mended, though by an older value
		m.submit(t, set("a", "3"))
		m.syncs()
		m.did()
		passes(time.Hour)
		require.Empty(t, m.did())
		m.deliver()
		m.syncs()
		passes(900 * time.Millisecond)
		require.NotContains(t, m.did(), "put")
		passes(1200 * time.Millisecond)
		require.Contains(t, m.did(), "put")
		m.syncs()
		m.holds(t, `{"a":3,"b":1}`)
	})
	scene(t, "is carried along by a write", func(t *testing.T) {
		m := start(t, `{}`)
		m.submit(t, set("a", "1"))
		m.fork("theirs", "1")
		m.syncs()
		m.did()
		m.submit(t, set("b", "1"))
		m.syncs()
		passes(time.Hour)
		require.Equal(t, []string{"put"}, m.did())
		m.holds(t, `{"a":1,"b":1,"theirs":1}`)
	})
	scene(t, "waits until a gap has been looked into", func(t *testing.T) {
		m := start(t, `{}`)
		m.submit(t, set("a", "1"))
		m.fork("theirs", "1")
		m.syncs()
		m.loaded(func(context.Context) error { return errNoReply })
		m.missed()
		m.did()
		passes(time.Minute)
		require.NotContains(t, m.did(), "put")
		m.loaded(nil)
		passes(10 * time.Minute)
		m.holds(t, `{"a":1,"theirs":1}`)
	})
	scene(t, "that is too large is told of once, whatever else goes on", func(t *testing.T) {
		m := start(t, `{}`)
		m.submit(t, set("a", `"`+strings.Repeat("x", 300)+`"`))
		m.fork("theirs", `"`+strings.Repeat("y", 300)+`"`)
		m.syncs()
		m.locked(func() { m.limit = 600 })
		m.did()
		var submitting sync.WaitGroup
		for range 100 {
			submitting.Go(func() {
				_, err := m.queue.Submit(context.Background(), set("b", `"`+strings.Repeat("z", 300)+`"`))
				require.ErrorIs(t, err, commit.ErrTooLarge)
			})
			passes(10 * time.Second)
		}
		submitting.Wait()
		require.NotContains(t, m.did(), "put")
		require.Len(t, m.told(), 1)
		require.ErrorIs(t, m.told()[0], commit.ErrTooLarge)
		m.submit(t, del("theirs"))
		m.syncs()
		passes(10 * time.Minute)
		m.holds(t, `{"a":"`+strings.Repeat("x", 300)+`"}`)
	})
	scene(t, "does not begin anew because the room has become encrypted meanwhile", func(t *testing.T) {
		m := start(t, `{}`)
		m.submit(t, set("a", "1"))
		m.fork("theirs", "1")
		m.fates(func(context.Context, json.RawMessage) fate {
			m.fates(nil)
			return fate{outcome: commit.Outdated}
		})
		m.syncs()
		passes(time.Minute)
		m.holds(t, `{"a":1,"theirs":1}`)
		require.Empty(t, m.told())
	})
}

func TestAChoreThatFails(t *testing.T) {
	scene(t, "is told of once, and done again after pauses that grow", func(t *testing.T) {
		m := start(t, `{}`)
		m.submit(t, set("a", "1"))
		m.fork("theirs", "1")
		m.fates(refuses)
		m.syncs()
		passes(2 * time.Second)
		m.did()
		passes(time.Hour)
		tries := len(m.did())
		require.Greater(t, tries, 10)
		require.Less(t, tries, 60)
		require.Len(t, m.told(), 1)
		m.fates(nil)
		passes(10 * time.Minute)
		m.holds(t, `{"a":1,"theirs":1}`)
	})
	scene(t, "is not done again whenever something comes or is written", func(t *testing.T) {
		m := serve(wire.Layout{PerKey: true}, map[string]string{"a": `{"a":1}`})
		m.opens(t)
		m.asked(func(context.Context) error { return errNoReply })
		m.fork("a", "2")
		m.syncs()
		require.Equal(t, []string{"ask"}, m.did())
		for i := range 20 {
			m.writes("b", fmt.Sprint(i))
			m.syncs()
			m.submit(t, set("c", fmt.Sprint(i)))
			m.syncs()
		}
		require.Equal(t, slices.Repeat([]string{"put"}, 20), m.did())
		require.Len(t, m.told(), 1)
	})
	scene(t, "keeps no other from being done", func(t *testing.T) {
		m := serve(wire.Layout{PerKey: true}, map[string]string{"a": `{"a":1}`, "b": `{"b":1}`})
		m.opens(t)
		m.submit(t, set("b", "2"))
		m.syncs()
		m.fates(func(_ context.Context, content json.RawMessage) fate {
			if strings.Contains(string(content), "late") {
				return fate{outcome: commit.Refused}
			}
			return fate{outcome: commit.Stored}
		})
		for _, key := range []string{"a", "b"} {
			m.fork(key, "3")
		}
		m.syncs()
		m.holds(t, `{"a":3,"b":3}`)
	})
	scene(t, "a room that can't be read: it is told of once, writes are refused, reads go on", func(t *testing.T) {
		m := start(t, `{"a":1}`)
		m.loaded(func(context.Context) error { return errNoReply })
		m.missed()
		for range 60 {
			_, err := m.queue.Submit(context.Background(), set("a", "2"))
			require.ErrorIs(t, err, errNoReply)
			passes(time.Minute)
		}
		did := m.did()
		require.NotContains(t, did, "put")
		require.Less(t, len(did), 60+60)
		require.Len(t, m.told(), 1)
		m.remembers(t, `{"a":1}`)
		m.loaded(nil)
		passes(10 * time.Minute)
		m.submit(t, set("a", "2"))
		m.holds(t, `{"a":2}`)
	})
}

// Writers and chores share one worker: neither may keep the other waiting for long.
func TestWritersAndChores(t *testing.T) {
	scene(t, "steady writes don't keep chores from being done", func(t *testing.T) {
		m := serve(wire.Layout{PerKey: true}, map[string]string{"a": `{"a":1}`})
		m.opens(t)
		takes(m, 100*time.Millisecond)
		ctx, stop := context.WithCancel(context.Background())
		var writers sync.WaitGroup
		for w := range 3 {
			writers.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					m.submit(t, set(fmt.Sprintf("writer%d", w), fmt.Sprint(i)))
				}
			})
		}
		passes(time.Second)
		m.fork("a", "2")
		for m.sync() {
		}
		passes(time.Second)
		m.remembersUnder(t, "a", "2")
		stop()
		writers.Wait()
	})
	scene(t, "a chore that hangs does not keep writes from being sent in time", func(t *testing.T) {
		m := start(t, `{"a":1}`)
		m.asked(hangs)
		m.fork("a", "2")
		m.fork("a", "3")
		m.syncs()
		require.Equal(t, []string{"ask"}, m.did())
		passes(time.Second)
		m.submit(t, set("b", "1")) // within the timeout, all of which the chore could have taken
		m.submit(t, set("c", "1"))
	})
	scene(t, "nor does one that begins while a write waits", func(t *testing.T) {
		m := serve(wire.Layout{PerKey: true}, map[string]string{"a": `{"a":1}`})
		m.opens(t)
		g := m.gate()
		var submitting sync.WaitGroup
		submitting.Go(func() { m.submit(t, set("b", "1")) })
		<-g.entered
		submitting.Go(func() { m.submit(t, set("c", "1")) })
		m.asked(hangs)
		m.fork("a", "2")
		m.syncs()
		close(g.open)
		submitting.Wait()
	})
}

// Where the homeserver limits how much is sent, what nobody waits for is held back.
func TestAChoreThatIsHeldBack(t *testing.T) {
	begin := func(t *testing.T) (*memory, chan struct{}) {
		m := serve(wire.Layout{PerKey: true}, nil)
		m.older = older(map[string]string{"old": `{"v":1}`})
		held := make(chan struct{})
		m.locked(func() { m.held = held })
		m.opens(t)
		synctest.Wait()
		require.Equal(t, []string{"held"}, m.did())
		return m, held
	}
	scene(t, "is done when it may", func(t *testing.T) {
		m, held := begin(t)
		close(held)
		synctest.Wait()
		require.Equal(t, []string{"put"}, m.did())
		require.Empty(t, m.told())
	})
	scene(t, "gives way to a write, and is no failure", func(t *testing.T) {
		m, _ := begin(t)
		begun := time.Now()
		m.submit(t, set("new", "1"))
		require.Zero(t, time.Since(begun))
		require.Equal(t, []string{"put"}, m.did())
		passes(2 * time.Second)
		require.Equal(t, []string{"held"}, m.did(), "it is tried again")
		require.Empty(t, m.told())
	})
	scene(t, "is left to a write that carries it", func(t *testing.T) {
		m := start(t, `{}`)
		m.submit(t, set("a", "1"))
		m.fork("theirs", "1")
		m.locked(func() { m.held = make(chan struct{}) })
		m.syncs()
		passes(2 * time.Second)
		require.Contains(t, m.did(), "held")
		m.submit(t, set("b", "1"))
		m.syncs()
		passes(time.Hour)
		require.Equal(t, []string{"put"}, m.did())
		m.holds(t, `{"a":1,"b":1,"theirs":1}`)
	})
	scene(t, "gives way to Close, which waits for it", func(t *testing.T) {
		m, _ := begin(t)
		begun := time.Now()
		m.queue.Close(context.Background())
		require.Zero(t, time.Since(begun))
		require.Equal(t, "put", m.did()[0])
		require.Contains(t, m.state, "old")
	})
	scene(t, "is not held back between two writes", func(t *testing.T) {
		m, _ := begin(t)
		takes(m, 100*time.Millisecond)
		ctx, stop := context.WithCancel(context.Background())
		var writers sync.WaitGroup
		for w := range 3 {
			writers.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					m.submit(t, set(fmt.Sprintf("writer%d", w), fmt.Sprint(i)))
				}
			})
		}
		passes(3 * time.Second)
		stop()
		writers.Wait()
		require.Contains(t, m.state, "old")
	})
}

// takes lets each Put take a while.
func takes(m *memory, d time.Duration) {
	m.fates(func(context.Context, json.RawMessage) fate {
		time.Sleep(d) // on the scene's clock
		return fate{outcome: commit.Stored}
	})
}
