package writers

import (
	"maps"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// lateness is how a request comes to arrive after later ones.
type lateness func(release <-chan struct{}, delivered chan<- struct{}) homeserver.Action

// gaveUp answers that the homeserver took too long, and delivers the request later.
func gaveUp(release <-chan struct{}, delivered chan<- struct{}) homeserver.Action {
	return homeserver.Late(http.StatusGatewayTimeout, release, delivered)
}

// A write that a proxy delivers once more, after later writes were acknowledged, takes
// none of them back.
func TestLateWriteUndoesNothing(t *testing.T) {
	type row struct {
		late   lateness
		layout matrix.StateKey
	}
	rows := map[string]row{
		// With a state event for each key nobody can tell a request that is delivered twice
		// from a change, unless its first answer was lost.
		"twice single": {homeserver.Twice, matrix.OneStateKey},
		"twice custom": {homeserver.Twice, "my.key"},
	}
	for name, layout := range rig.Layouts {
		rows["given up "+name] = row{gaveUp, layout}
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("of a memory alone", func(t *testing.T) {
				r := rig.Crowd(t, rig.Shared(t), 1, row.layout)[0]
				require.NoError(t, r.Set("start", []byte(`1`)))
				deliver := delivered(r, row.late)
				require.NoError(t, r.Set("counter", []byte(`1`)))
				require.NoError(t, r.Set("counter", []byte(`2`)))
				require.NoError(t, r.Set("other", []byte(`"precious"`)))
				_, err := r.Delete("start")
				require.NoError(t, err)
				deliver()
				rig.Settle(t, map[string]string{"counter": `2`, "other": `"precious"`}, rig.Lasting, r)
			})
			t.Run("of one of two", func(t *testing.T) {
				all := rig.Crowd(t, rig.Shared(t), 2, row.layout)
				one, two := all[0], all[1]
				want := map[string]string{"start": `1`, "counter": `0`}
				require.NoError(t, one.Set("start", []byte(`1`)))
				require.NoError(t, one.Set("counter", []byte(`0`)))
				deliver := delivered(one, row.late)
				require.NoError(t, one.Set("counter", []byte(`1`)))
				want["counter"] = `1`
				rig.Settle(t, want, 0, all...)
				require.NoError(t, two.Set("counter", []byte(`2`)))
				require.NoError(t, two.Set("two", []byte(`2`)))
				want["counter"], want["two"] = `2`, `2`
				rig.Settle(t, want, 0, all...)
				deliver()
				rig.Settle(t, want, rig.Lasting, all...)
			})
			t.Run("of one of two, nobody else having heard", func(t *testing.T) {
				all := rig.Crowd(t, rig.Shared(t), 2, row.layout)
				one, two := all[0], all[1]
				require.NoError(t, one.Set("counter", []byte(`0`)))
				rig.Settle(t, map[string]string{"counter": `0`}, 0, all...)
				restore := two.LoseSync(t)
				deliver := delivered(one, row.late)
				require.NoError(t, one.Set("one", []byte(`1`)))
				require.NoError(t, one.Set("one", []byte(`2`)))
				require.NoError(t, two.Set("two", []byte(`1`)))
				deliver()
				restore()
				rig.Settle(t, map[string]string{"counter": `0`, "one": `2`, "two": `1`}, rig.Lasting, all...)
			})
		})
	}
}

// A delete that arrives late takes nothing away that was set since.
func TestLateDelete(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := rig.Crowd(t, rig.Shared(t), 2, layout)
			want := map[string]string{"a": `1`, "b": `1`}
			for key := range want {
				require.NoError(t, all[0].Set(key, []byte(`1`)))
			}
			deliver := delivered(all[0], gaveUp)
			_, err := all[0].Delete("a")
			require.NoError(t, err)
			delete(want, "a")
			rig.Settle(t, maps.Clone(want), 0, all...)
			require.NoError(t, all[0].Set("a", []byte(`2`)))
			require.NoError(t, all[1].Set("c", []byte(`1`)))
			want["a"], want["c"] = `2`, `1`
			deliver()
			rig.Settle(t, want, rig.Lasting, all...)
		})
	}
}

// delivered makes the next write one that arrives late. What it returns delivers it.
func delivered(r rig.Proxied, late lateness) (deliver func()) {
	release, arrived := make(chan struct{}), make(chan struct{})
	r.Front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: late(release, arrived)})
	return func() {
		close(release)
		<-arrived
	}
}
