package test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A redacted state event has lost what it held. What it alone said is gone, and the
// rest of a dictionary is put back. Writing goes on.
func TestRedacted(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			all := rig.Crowd(t, rig.Shared(t), 2, layout)
			want := map[string]string{"tea": `"green"`, "milk": `"none"`, "coffee": `"secret"`}
			for i, key := range []string{"tea", "milk", "coffee"} {
				require.NoError(t, all[i%2].Set(key, []byte(want[key])))
				all[0].InStep(t)
				all[1].InStep(t)
			}
			rig.Settle(t, want, 0, all...)
			rig.Redact(t, all[0], rig.Latest(t, all[0], layout, "coffee"))
			delete(want, "coffee")
			rig.Settle(t, want, rig.Lasting, all...)
			require.NoError(t, all[0].Set("sugar", []byte(`1`)))
			require.NoError(t, all[1].Set("coffee", []byte(`"black"`)))
			want["sugar"], want["coffee"] = `1`, `"black"`
			rig.Settle(t, want, rig.Lasting, all...)
			conf := all[0].Config(all[0].Room)
			conf.SingleStateKey = layout
			require.Empty(t, rig.Compare("a memory that starts now", want, rig.Entries(t, rig.Open(t, conf))))
		})
	}
}

// What a later state event of the dictionary still says is not lost with a redacted one.
func TestRedactedBefore(t *testing.T) {
	all := rig.Crowd(t, rig.Shared(t), 2, matrix.OneStateKey)
	require.NoError(t, all[0].Set("tea", []byte(`"green"`)))
	former := rig.Latest(t, all[0], matrix.OneStateKey, "tea")
	require.NoError(t, all[1].Set("coffee", []byte(`"black"`)))
	want := map[string]string{"tea": `"green"`, "coffee": `"black"`}
	rig.Settle(t, want, 0, all...)
	rig.Redact(t, all[0], former)
	rig.Settle(t, want, rig.Lasting, all...)
	require.NoError(t, all[1].Set("sugar", []byte(`1`)))
	want["sugar"] = `1`
	rig.Settle(t, want, rig.Lasting, all...)
}

// A redaction that sync leaves out is noticed: what was redacted is not answered any
// more, and the next write does not publish it again.
func TestRedactionInAGapOfSync(t *testing.T) {
	t.Parallel()
	bot := rig.Register(t)
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			r := behind(t, rig.Proxy(t), bot, 15*time.Second, layout)
			require.NoError(t, r.Set("secret", []byte(`1`)))
			r.InStep(t)
			secret := rig.Latest(t, r, layout, "secret")
			restore := r.Gap(t, func() { rig.Redact(t, r, secret) })
			restore()
			eventually(t, func() bool {
				_, ok, err := r.Get("secret")
				return err == nil && !ok
			}, "what was redacted is gone")
			require.NoError(t, r.Set("x", []byte(`1`)))
			for _, content := range bot.Standing(t, r.Room) {
				require.NotContains(t, content, "secret")
			}
		})
	}
}

// A second gap of sync, while the first is still being looked into, is looked into as
// well: what was redacted in it is not published again.
func TestRedactionInASecondGapOfSync(t *testing.T) {
	bot := rig.Register(t)
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := behind(t, rig.Proxy(t), bot, 15*time.Second, layout)
			require.NoError(t, r.Set("secret", []byte(`1`)))
			r.InStep(t)
			secret := rig.Latest(t, r, layout, "secret")
			restore := r.Gap(t, func() {})
			reached, release := make(chan struct{}), make(chan struct{})
			r.Front.Inject(homeserver.Fault{Match: looksAtState, Times: 1, Do: homeserver.PauseAfter(reached, release)})
			restore()
			select {
			case <-reached:
			case <-time.After(slack): // it needs no look: so much the better
			}
			restore = r.Gap(t, func() { rig.Redact(t, r, secret) })
			restore()
			close(release)
			rig.Settle(t, map[string]string{}, 0, r)
			require.NoError(t, r.Set("x", []byte(`1`)))
			rig.Settle(t, map[string]string{"x": `1`}, rig.Lasting, r)
		})
	}
}

// looksAtState matches what reads a room's state in some way, other than one event.
func looksAtState(r *http.Request) bool {
	return rig.Load(r) || homeserver.Sync(r) && !r.URL.Query().Has("since")
}
