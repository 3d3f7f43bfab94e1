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
	"github.com/go-joe/matrix-memory/internal/wire"
)

func TestClose(t *testing.T) {
	scene(t, "accepted writes are finished, new ones refused", func(t *testing.T) {
		m := start(t, `{}`)
		g := m.gate()
		var first, second error
		var submitting sync.WaitGroup
		submitting.Go(func() { _, first = m.queue.Submit(context.Background(), set("a", "1")) })
		<-g.entered
		submitting.Go(func() { _, second = m.queue.Submit(context.Background(), set("b", "1")) })
		synctest.Wait()
		submitting.Go(func() { m.queue.Close(context.Background()) })
		synctest.Wait()
		_, err := m.queue.Submit(context.Background(), set("c", "1"))
		require.ErrorIs(t, err, commit.ErrClosed)
		close(g.open)
		submitting.Wait()
		require.NoError(t, first)
		require.NoError(t, second)
		m.queue.Wake()
		m.holds(t, `{"a":1,"b":1}`)
	})
	scene(t, "no longer than the context allows", func(t *testing.T) {
		m := start(t, `{}`)
		g := m.gate()
		var first, second error
		var submitting sync.WaitGroup
		submitting.Go(func() { _, first = m.queue.Submit(context.Background(), set("a", "1")) })
		<-g.entered
		submitting.Go(func() { _, second = m.queue.Submit(context.Background(), set("b", "1")) })
		synctest.Wait()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		m.queue.Close(ctx)
		submitting.Wait()
		require.ErrorIs(t, first, commit.ErrUnknownOutcome)
		require.ErrorIs(t, second, commit.ErrNotSent)
		require.Equal(t, []string{"put"}, m.did())
	})
	scene(t, "nothing is done after it", func(t *testing.T) {
		m := start(t, `{}`)
		m.submit(t, set("a", "1"))
		m.fork("theirs", "1")
		m.fates(refuses)
		m.syncs()
		passes(10 * time.Second)
		m.queue.Close(context.Background())
		m.did()
		m.fork("theirs", "2")
		m.syncs()
		passes(time.Hour)
		require.Empty(t, m.did())
	})
	scene(t, "a second one waits as the first does", func(t *testing.T) {
		m := start(t, `{}`)
		m.submit(t, set("a", "1"))
		m.asked(func(context.Context) error { time.Sleep(time.Second); return nil }) // on the scene's clock
		began := time.Now()
		var closing sync.WaitGroup
		for range 2 {
			closing.Go(func() {
				m.queue.Close(context.Background())
				require.Equal(t, time.Second, time.Since(began))
			})
		}
		closing.Wait()
		m.did()
		m.queue.Close(context.Background())
		require.Empty(t, m.did())
	})
	scene(t, "a chore that hangs leaves it time", func(t *testing.T) {
		m := start(t, `{"a":1}`)
		m.submit(t, set("b", "1"))
		m.loaded(func(ctx context.Context) error {
			m.loaded(nil)
			return hangs(ctx)
		})
		m.missed()
		synctest.Wait()
		m.fork("theirs", "1")
		ctx, cancel := context.WithTimeout(context.Background(), m.timeout)
		defer cancel()
		m.queue.Close(ctx)
		m.holds(t, `{"a":1,"b":1,"theirs":1}`)
	})
}

func TestCloseProves(t *testing.T) {
	for _, layout := range []wire.Layout{{}, {PerKey: true}} {
		scene := func(t *testing.T, name string, play func(t *testing.T, m *memory)) {
			scene(t, fmt.Sprintf("%s (per key %v)", name, layout.PerKey), func(t *testing.T) {
				m := serve(layout, map[string]string{layout.Of("a"): `{"a":0}`, layout.Of("b"): `{"b":0}`})
				m.opens(t)
				m.submit(t, set("a", "1"))
				m.did()
				play(t, m)
			})
		}
		scene(t, "that what was written stands, where sync has not", func(t *testing.T, m *memory) {
			m.queue.Close(context.Background())
			if layout.PerKey {
				require.Equal(t, []string{"ask"}, m.did())
			} else {
				require.Equal(t, []string{"load", "ask"}, m.did(), "what it replaced may hold other changes")
			}
		})
		scene(t, "nothing where sync has", func(t *testing.T, m *memory) {
			m.syncs()
			m.queue.Close(context.Background())
			if layout.PerKey {
				require.Empty(t, m.did())
			} else {
				require.Equal(t, []string{"ask"}, m.did(), "somebody may have written over it")
			}
		})
		scene(t, "no longer than the context allows", func(t *testing.T, m *memory) {
			m.asked(hangs)
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			began := time.Now()
			m.queue.Close(ctx)
			require.Equal(t, 5*time.Second, time.Since(began))
			require.Empty(t, m.told(), "that is no failure")
		})
		scene(t, "nothing where it can't ask", func(t *testing.T, m *memory) {
			m.asked(func(context.Context) error { return errRefused })
			m.submit(t, set("b", "1"))
			m.did()
			m.queue.Close(context.Background())
			require.Empty(t, m.told())
			require.LessOrEqual(t, len(m.did()), 3)
		})
	}
	scene(t, "that what a fork took away stands again", func(t *testing.T) {
		m := start(t, `{}`)
		m.submit(t, set("a", "1"))
		m.fork("theirs", "1")
		m.queue.Close(context.Background())
		m.holds(t, `{"a":1,"theirs":1}`)
	})
	scene(t, "also where each attempt is forked once more", func(t *testing.T) {
		m := start(t, `{}`)
		m.submit(t, set("a", "1"))
		forks := 3
		m.fork("theirs", "0")
		m.asked(func(context.Context) error {
			if forks > 0 {
				m.fork("theirs", fmt.Sprint(forks))
			}
			forks--
			return nil
		})
		m.queue.Close(context.Background())
		m.holds(t, `{"a":1,"theirs":1}`)
	})
	scene(t, "one document though another can't be mended", func(t *testing.T) {
		m := serve(wire.Layout{PerKey: true}, nil)
		m.fates(func(context.Context, json.RawMessage) fate { return fate{outcome: commit.Repeated, late: true} })
		m.opens(t)
		m.submit(t, set("bad", "1"), set("good", "1"))
		m.fates(nil)
		m.submit(t, set("bad", "2"), set("good", "2"))
		for m.deliver() {
		}
		m.syncs()
		m.fates(func(_ context.Context, content json.RawMessage) fate {
			if strings.Contains(string(content), "bad") {
				return fate{outcome: commit.Refused}
			}
			return fate{outcome: commit.Stored}
		})
		m.did()
		m.queue.Close(context.Background())
		require.ElementsMatch(t, []string{"put", "put", "ask"}, m.did())
		require.Equal(t, "2", string(m.entries(t)["good"]))
		m.remembers(t, `{"bad":2,"good":2}`)
	})
}
