package commit_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/wire"
)

func TestTooLarge(t *testing.T) {
	scene(t, "a value", func(t *testing.T) {
		m := start(t, `{}`)
		m.locked(func() { m.limit = 600 })
		large := `"` + strings.Repeat("x", 600) + `"`
		results := m.together([]commit.Change{set("a", "1")}, []commit.Change{set("b", "1"), set("large", large)}, []commit.Change{set("c", "1")})
		require.NoError(t, results[0].err)
		require.NoError(t, results[2].err)
		require.ErrorIs(t, results[1].err, commit.ErrTooLarge)
		require.Equal(t, []string{"put"}, m.did())
		m.holds(t, `{"a":1,"c":1,"opener":0}`)
	})
	scene(t, "a key is too long, which is its caller's fault alone", func(t *testing.T) {
		m := start(t, `{"old":"`+strings.Repeat("x", 1000)+`"}`)
		m.locked(func() { m.limit = 2000 })
		results := m.together([]commit.Change{set("same", "1"), set(strings.Repeat("k", 1500), "1")}, []commit.Change{set("a", "1")})
		require.ErrorIs(t, results[0].err, commit.ErrTooLarge)
		require.NoError(t, results[1].err)
	})
	scene(t, "a dictionary that others have filled", func(t *testing.T) {
		m := start(t, `{"old":"`+strings.Repeat("x", 1000)+`","other":1}`)
		m.locked(func() { m.limit = 500 })
		_, err := m.queue.Submit(context.Background(), set("a", "1"))
		var tooLarge *commit.TooLargeError
		require.ErrorAs(t, err, &tooLarge)
		require.Equal(t, 500, tooLarge.Limit)
		require.Equal(t, 3, tooLarge.Keys)
		require.Greater(t, tooLarge.Size, 1000+m.room.Reserve())
		require.Empty(t, m.did())
		m.submit(t, set("other", "2")) // it grows no more
		m.submit(t, del("other"))
		m.submit(t, set("old", "1"))
		m.syncs()
		m.submit(t, set("a", "1"))
		m.holds(t, `{"a":1,"old":1}`)
	})
	scene(t, "the homeserver decides, where a write makes it no larger", func(t *testing.T) {
		m := start(t, `{"old":"`+strings.Repeat("x", 1000)+`"}`)
		m.locked(func() { m.limit = 500 })
		m.fates(func(context.Context, json.RawMessage) fate { return fate{outcome: commit.Invalid} })
		_, err := m.queue.Submit(context.Background(), set("old", `"`+strings.Repeat("y", 1000)+`"`))
		require.ErrorIs(t, err, errInvalid)
	})
}

// What is not refused fits, whatever the keys are called; and what fits is not refused.
func TestTheLimitIsKept(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		keys := rapid.SliceOfNDistinct(rapid.StringN(1, 60, -1), 1, 30, rapid.ID[string]).Draw(rt, "keys")
		sizes := rapid.SliceOfN(rapid.IntRange(0, 400), len(keys), len(keys)).Draw(rt, "sizes")
		limit := rapid.IntRange(500, 4000).Draw(rt, "limit")
		bubble(t, func() {
			m := serve(wire.Layout{}, nil)
			require.NoError(rt, m.open())
			defer m.queue.Close(context.Background())
			m.locked(func() { m.limit = limit })
			m.fates(func(_ context.Context, content json.RawMessage) fate {
				require.LessOrEqual(rt, wire.CanonicalSize(content), limit)
				return fate{outcome: commit.Stored}
			})
			stored := make(map[string]json.RawMessage)
			for i, key := range keys {
				raw := json.RawMessage(`"` + strings.Repeat("v", sizes[i]) + `"`)
				_, err := m.queue.Submit(context.Background(), set(key, string(raw)))
				if err == nil {
					stored[key] = raw
					m.sync()
					synctest.Wait()
					continue
				}
				require.ErrorIs(rt, err, commit.ErrTooLarge)
				size := wire.CanonicalSize(wire.Dictionary{}.With(stored).With(map[string]json.RawMessage{key: raw}).Content())
				name, _ := json.Marshal(wire.EncodeKey(key))
				stamp := wire.CanonicalSize(name) + len(`:[9007199254740991,"0123456789abcdef"],`)
				require.Greater(rt, size+m.room.Reserve()+stamp, limit-len(",,"), "%q and a value of %d bytes would fit", key, sizes[i])
			}
		})
	})
}
