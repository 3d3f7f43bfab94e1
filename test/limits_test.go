package test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// What does not fit in an event is refused before anything is sent, and what just
// fits is accepted by the homeserver.
func TestLimits(t *testing.T) {
	bot := rig.Register(t)
	contents := map[string]func(n int) []byte{ // each of about n bytes in the event
		"quotes": func(n int) []byte { return []byte(`"` + strings.Repeat(`\"\\`, n/4) + strings.Repeat("x", n%4) + `"`) },
		"controls": func(n int) []byte {
			return []byte(`"` + strings.Repeat(`\u0001`, n/6) + strings.Repeat("x", n%6) + `"`)
		},
		"multi-byte": func(n int) []byte { return []byte(`"` + strings.Repeat("🫖", n/4) + strings.Repeat("x", n%4) + `"`) },
		"bytes":      func(n int) []byte { return bytes.Repeat([]byte{0xff}, n*3/4-1) },
		"numbers":    func(n int) []byte { return []byte("[" + strings.Repeat("1,", n/2) + strings.Repeat("1", 1+n%2) + "]") },
		"wrapped": func(n int) []byte {
			return []byte(`["` + strings.Repeat(`\\`, n/4) + strings.Repeat("x", n%4) + `",1.5]`)
		},
	}
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := behind(t, rig.Proxy(t), bot, 30*time.Second, layout)
			require.NoError(t, r.Set("other", []byte(`"secret"`)))
			var before []byte
			for content, make := range contents {
				r.Front.Reset()
				err := r.Set("tea", make(80_000))
				r.Failed(t, err, "set", "tea")
				require.ErrorIs(t, err, matrix.ErrTooLarge)
				var tooLarge *commit.TooLargeError
				require.ErrorAs(t, err, &tooLarge)
				require.ErrorContains(t, err, fmt.Sprint(tooLarge.Size))
				require.ErrorContains(t, err, fmt.Sprint(tooLarge.Limit))
				require.Greater(t, tooLarge.Limit, 60_000)
				require.Zero(t, r.Writes(), content)
				rig.Has(t, r.Memory, "tea", string(before))
				rig.Has(t, r.Memory, "other", `"secret"`)

				// The largest that the memory takes, found without sending any.
				n := 80_000 - (tooLarge.Size - tooLarge.Limit) + 16
				for err = r.Set("tea", make(n)); errors.Is(err, matrix.ErrTooLarge); err = r.Set("tea", make(n)) {
					var answer mautrix.RespError
					require.False(t, errors.As(err, &answer), "%s: the homeserver refused what should fit: %v", content, err)
					n--
				}
				require.NoError(t, err, content)
				require.Equal(t, 1, r.Writes(), content)
				before = make(n)
				rig.Has(t, r.Memory, "tea", string(before))
			}
			rig.Has(t, r.Memory, "other", `"secret"`)
		})
	}
	t.Run("dictionary", func(t *testing.T) {
		t.Parallel()
		r := behind(t, rig.Proxy(t), bot, 30*time.Second, matrix.OneStateKey)
		half := []byte(`"` + strings.Repeat("x", 40_000) + `"`)
		require.NoError(t, r.Set("one", half))
		err := r.Set("two", half)
		r.Failed(t, err, "set", "two")
		require.ErrorIs(t, err, matrix.ErrTooLarge)
		require.ErrorContains(t, err, "the dictionary of 2 keys would have 80")
		require.Equal(t, 1, r.Writes())
		rig.Has(t, r.Memory, "two", "")
		require.NoError(t, r.Set("small", []byte(`1`)))
		_, err = r.Delete("one")
		require.NoError(t, err)
		require.NoError(t, r.Set("two", half), "there is room again")
		require.Equal(t, map[string]string{"": `{"small":1,"two":` + string(half) + `}`}, r.Standing(t, r.Room))
	})
}
