package room_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/journal"
	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/internal/room"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// openLocal returns the rooms of an account with a journal, of which nothing is delivered before
// StartDelivering.
func openLocal(t *testing.T, account rig.Account, layout wire.Layout, path string) *room.Rooms {
	t.Helper()
	kept, err := journal.Open(path, journal.Options{Account: account.UserID.String(), Log: rig.Log(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, kept.Close()) })
	return openWith(t, account.HomeserverURL.String(), account, room.Env{
		Layout: layout, Journal: kept, Through: func(key string) bool { return strings.HasPrefix(key, "through ") },
	})
}

// What was written through counts, though the journal had an earlier change of the key, and though
// the process is killed before that is taken out of the file.
func TestWrittenThroughOverWhatWaits(t *testing.T) {
	for name, layout := range map[string]wire.Layout{"single": {}, "per key": {PerKey: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			account := rig.Register(t)
			roomID := account.NewRoom(t)
			account.Put(t, roomID, "", nil)
			path := rig.Journal(t)
			r, err := openLocal(t, account, layout, path).Find(t.Context(), roomID.String())
			require.NoError(t, err)
			require.NoError(t, r.Set(budget(t), "waits", []byte(`1`)))
			require.NoError(t, r.Set(budget(t), "tea", []byte(`"green"`)))
			require.Empty(t, account.Entries(t, roomID))
			n, err := r.Delete(budget(t), "tea", "through all")
			require.NoError(t, err)
			require.Equal(t, 1, n, "tea was there, as Get says")
			keys, err := r.Keys(budget(t))
			require.NoError(t, err)
			require.Equal(t, []string{"waits"}, keys)

			killed, err := os.ReadFile(path)
			require.NoError(t, err)
			path = filepath.Join(t.TempDir(), "memory.db")
			require.NoError(t, os.WriteFile(path, killed, 0o600))
			rooms := openLocal(t, account, layout, path)
			rooms.StartDelivering()
			require.NoError(t, rooms.Flush(t.Context()))
			require.Equal(t, map[string]string{"waits": `1`}, account.Entries(t, roomID))
		})
	}
}
