package commit_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/wire"
)

func TestSealing(t *testing.T) {
	// start returns a memory of an encrypted room.
	start := func(t *testing.T, content string) *memory {
		m := serve(wire.Layout{}, map[string]string{"": content})
		m.locked(func() { m.encrypt = true })
		return m
	}
	scene(t, "values share an event, and one that is known is asked for", func(t *testing.T) {
		m := start(t, `{}`)
		m.opens(t)
		m.submit(t, set("a", "1.5"), set("b", `{"x":1,"y":2}`))
		require.Equal(t, []string{"seal", "put"}, m.did())
		require.JSONEq(t, `{"a":1.5,"b":{"x":1,"y":2}}`, string(m.sealed["$sealed0"]))
		m.holds(t, `{"a":{"encrypted_val":"$sealed0"},"b":{"encrypted_val":"$sealed0"}}`)

		m.submit(t, set("b", `{"y": 2, "x": 1}`))
		require.Equal(t, []string{"ask"}, m.did())

		m.submit(t, del("a"))
		m.syncs()
		require.Empty(t, m.removed, "b still stands there")
		m.submit(t, set("b", "2"))
		passes(time.Minute)
		require.Empty(t, m.removed, "it is not known yet that the write stands")
		m.syncs()
		require.Equal(t, []string{"$sealed0"}, m.removed)
	})
	scene(t, "an overwritten value stays in the room", func(t *testing.T) {
		m := start(t, `{}`)
		m.opens(t)
		m.submit(t, set("a", "1"))
		m.submit(t, set("a", "2"))
		m.syncs()
		require.Equal(t, []string{"seal", "put", "seal", "put"}, m.did())
		m.queue.Close(context.Background())
		require.Empty(t, m.removed)
	})
	scene(t, "a deleted value stays while what stands there points at it", func(t *testing.T) {
		m := start(t, `{}`)
		m.opens(t)
		m.submit(t, set("a", "1"))
		m.syncs()
		stale := m.content("")
		m.submit(t, del("a"))
		m.fates(refuses) // the mending
		m.store("@opsdroid:x", "", stale)
		m.bring(2) // at once, as between the two events it would rightly go
		passes(time.Minute)
		require.Empty(t, m.removed)
	})
	scene(t, "a deleted value goes when the memory is closed", func(t *testing.T) {
		m := start(t, `{}`)
		m.opens(t)
		m.submit(t, set("a", "1"))
		m.submit(t, del("a"))
		m.queue.Close(context.Background())
		require.Equal(t, []string{"$sealed0"}, m.removed)
	})
	scene(t, "a value is not sent in the clear once the room is encrypted", func(t *testing.T) {
		m := serve(wire.Layout{}, nil)
		m.fates(func(context.Context, json.RawMessage) fate {
			if !m.now().encrypt {
				m.locked(func() { m.encrypt = true }) // meanwhile
				return fate{outcome: commit.Outdated}
			}
			return fate{outcome: commit.Stored}
		})
		m.opens(t)
		m.submit(t, set("a", "1"))
		m.holds(t, `{"a":{"encrypted_val":"$sealed0"}}`)
	})
	scene(t, "what this version can't read is not overwritten", func(t *testing.T) {
		m := start(t, `{"a":{"encrypted_val":"$new"}}`)
		m.sealed["$new"] = json.RawMessage(`{"a":{"dev.joe.future":1}}`)
		m.opens(t)
		_, err := m.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, commit.ErrUnreadable)
		require.Empty(t, m.did())
	})
	scene(t, "as many as fit", func(t *testing.T) {
		m := start(t, `{}`)
		m.sealSize = 100
		m.opens(t)
		half := `"` + strings.Repeat("x", 50) + `"`
		m.submit(t, set("a", half), set("b", half), set("c", "1"))
		require.Len(t, m.sealed, 2)
		for _, content := range m.sealed {
			require.LessOrEqual(t, len(content), m.sealSize)
		}
		_, err := m.queue.Submit(context.Background(), set("a", `"`+strings.Repeat("x", 100)+`"`))
		require.ErrorIs(t, err, commit.ErrTooLarge)
	})
	scene(t, "what stands in the clear is encrypted when it is written again", func(t *testing.T) {
		m := start(t, `{"a":1}`)
		m.opens(t)
		m.submit(t, set("a", "1"))
		m.holds(t, `{"a":{"encrypted_val":"$sealed0"}}`)
	})
	scene(t, "an event that nothing came to point at is given up", func(t *testing.T) {
		m := start(t, `{}`)
		m.opens(t)
		m.fates(refuses)
		_, err := m.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, errRefused)
		require.Equal(t, []string{"$sealed0"}, m.removed)
		m.holds(t, `{}`)
	})
	scene(t, "an event that something may point at is kept", func(t *testing.T) {
		m := start(t, `{}`)
		m.opens(t)
		m.fates(func(context.Context, json.RawMessage) fate { return fate{outcome: commit.Unknown, stored: true} })
		_, err := m.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, commit.ErrUnknownOutcome)
		passes(time.Minute)
		m.syncs()
		require.Empty(t, m.removed)
	})
	scene(t, "not possible", func(t *testing.T) {
		m := start(t, `{"a":{"encrypted_val":"$lost"}}`)
		m.denied = errRefused
		m.opens(t)
		_, err := m.queue.Submit(context.Background(), set("a", "1"))
		require.ErrorIs(t, err, errRefused)
		require.Empty(t, m.did(), "nothing goes out in the clear")
		m.submit(t, del("a"))
	})
}

func TestSealingWhatTheJournalHolds(t *testing.T) {
	start := func(t *testing.T) (*memory, *ledger) {
		m, l := journaled(t, wire.Layout{}, map[string]string{"": `{}`})
		m.locked(func() { m.encrypt = true })
		return m, l
	}
	change := func(key, value string, seq uint64) commit.Change {
		return commit.Change{Key: key, Value: []byte(value), Seq: seq}
	}
	scene(t, "a value goes out once, however often its change does", func(t *testing.T) {
		m, l := start(t)
		m.fates(refuses)
		require.ErrorIs(t, m.delivers(change("a", "1", 1), change("b", "2", 2))[0], errRefused)
		m.fates(func(context.Context, json.RawMessage) fate { return fate{outcome: commit.Unknown} })
		require.ErrorIs(t, m.delivers(l.again(change("a", "1", 1)))[0], commit.ErrUnknownOutcome)
		m.fates(nil)
		require.Equal(t, []error{nil, nil}, m.delivers(l.again(change("a", "1", 1)), l.again(change("b", "2", 2))))
		require.Len(t, m.sealed, 1)
		m.holds(t, `{"a":{"encrypted_val":"$sealed0"},"b":{"encrypted_val":"$sealed0"}}`)
		m.syncs()
		m.queue.Close(context.Background())
		require.Empty(t, m.removed)
	})
	scene(t, "a value that was replaced before it was delivered is given up", func(t *testing.T) {
		m, _ := start(t)
		m.fates(refuses)
		require.ErrorIs(t, m.delivers(change("a", "1", 1), change("b", "2", 2))[0], errRefused)
		m.fates(nil)
		require.Equal(t, []error{nil}, m.delivers(change("a", "3", 3)))
		require.Empty(t, m.removed, "the other value is in it, too")
		require.Equal(t, []error{nil}, m.delivers(change("b", "4", 4)))
		require.Equal(t, []string{"$sealed0"}, m.removed)
		m.holds(t, `{"a":{"encrypted_val":"$sealed1"},"b":{"encrypted_val":"$sealed2"}}`)
	})
	scene(t, "what may be pointed at is kept", func(t *testing.T) {
		m, _ := start(t)
		m.fates(func(context.Context, json.RawMessage) fate { return fate{outcome: commit.Unknown} })
		require.ErrorIs(t, m.delivers(change("a", "1", 1))[0], commit.ErrUnknownOutcome)
		m.fates(nil)
		require.Equal(t, []error{nil}, m.delivers(change("a", "3", 3)))
		m.queue.Close(context.Background())
		require.Empty(t, m.removed)
	})
	scene(t, "what is left when the memory is closed is given up", func(t *testing.T) {
		m, _ := start(t)
		m.fates(refuses)
		require.ErrorIs(t, m.delivers(change("a", "1", 1))[0], errRefused)
		require.Empty(t, m.removed)
		m.queue.Close(context.Background())
		require.Equal(t, []string{"$sealed0"}, m.removed)
	})
}
