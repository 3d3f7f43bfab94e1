package writers

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/rig"
)

// While sync is away another program changes keys that the memory believes to be as it
// wants them. What it acknowledges then is so nevertheless, and it takes away nothing
// that it has not heard of.
func TestWritesWhatItBelievesToBeThere(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			r := rig.Crowd(t, rig.Shared(t), 1, layout)[0]
			other := rig.NewOpsdroid(t, rig.Shared(t), r, layout)
			require.NoError(t, r.Set("light", []byte(`"on"`)))
			_, err := r.Delete("heating")
			require.NoError(t, err)
			r.InStep(t)
			restore := r.LoseSync(t)
			require.NoError(t, other.Put(t.Context(), "light", `"off"`))
			require.NoError(t, other.Put(t.Context(), "heating", `"on"`))
			require.NoError(t, other.Put(t.Context(), "kept", `1`))

			require.NoError(t, r.Set("light", []byte(`"on"`)))
			require.Equal(t, `"on"`, r.Account.Entries(t, r.Room)["light"])
			was, err := r.Delete("heating")
			require.NoError(t, err)
			require.True(t, was, "it was there")
			require.NotContains(t, r.Account.Entries(t, r.Room), "heating")
			restore()
			rig.Settle(t, map[string]string{"light": `"on"`, "kept": `1`}, rig.Lasting, r)
		})
	}
}
