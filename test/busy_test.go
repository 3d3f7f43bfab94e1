package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// Another program writes ten times a second, and the homeserver is so far away that there
// is always something that the memory has not heard of yet. Its own writes are made all
// the same.
func TestBusyRoomStarvesNoWrites(t *testing.T) {
	owner, confs := rig.Newcomers(t, rig.Shared(t), 1, matrix.OneStateKey)
	confs[0].Timeout = 6 * time.Second
	r := rig.Behind(t, rig.Proxy(t), owner, confs[0])
	require.NoError(t, r.Set("start", []byte(`1`)))
	r.InStep(t)
	other := rig.NewOpsdroid(t, rig.Shared(t), r, matrix.OneStateKey)
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for n := 0; ; n++ {
			select {
			case <-stop:
				stopped <- nil
				return
			case <-ticker.C:
			}
			if err := other.Put(t.Context(), "theirs", fmt.Sprint(n)); err != nil {
				stopped <- err
				return
			}
		}
	}()
	near := r.Front.Inject(homeserver.Fault{Do: rig.Far(300 * time.Millisecond)})
	eventually(t, func() bool { _, ok, err := r.Get("theirs"); return ok && err == nil }, "it writes")
	want := map[string]string{"start": `1`}
	for i := range 3 {
		key := fmt.Sprint("ours ", i)
		require.NoError(t, r.Set(key, []byte(`1`)))
		want[key] = `1`
	}
	close(stop)
	require.NoError(t, <-stopped)
	near()
	rig.SettleBut(t, want, []string{"theirs"}, rig.Lasting, r)
}
