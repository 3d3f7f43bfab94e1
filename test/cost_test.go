package test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/rig"
)

// A room's state is large for others' sake. Opening a memory in it, and looking at it
// after a gap of sync, costs what the memory holds.
func TestOthersStateCostsNothing(t *testing.T) {
	const foreign, most = 60, 64_000 // the others' state events have 240,000 bytes
	bot := rig.Register(t)
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			conf := bot.Config(bot.NewRoom(t, rig.Crowded(foreign)))
			conf.SingleStateKey, conf.Timeout = layout, 15*time.Second
			front := rig.Proxy(t)
			cost := func() (bytes int) {
				for _, request := range front.Requests() {
					bytes += request.Size
				}
				front.Reset()
				return bytes
			}
			r := rig.Behind(t, front, bot, conf)
			require.NoError(t, r.Set("tea", []byte(`1`)))
			require.NoError(t, r.Set("secret", []byte(`1`)))
			r.InStep(t)
			require.NoError(t, r.Close())
			cost()

			r = rig.Behind(t, front, bot, conf)
			rig.Has(t, r.Memory, "tea", `1`)
			opened := cost()
			secret := rig.Latest(t, r, layout, "secret")
			restore := r.Gap(t, func() { rig.Redact(t, r, secret) }) // so that the look shows
			restore()
			eventually(t, func() bool { _, ok, err := r.Get("secret"); return !ok && err == nil }, "it has looked")
			looked := cost()
			t.Logf("Open took %d bytes, a gap %d", opened, looked)
			require.Less(t, opened, most)
			require.Less(t, looked, most)
		})
	}
}
