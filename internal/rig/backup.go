package rig

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Backup stops the server, copies what it has stored, and starts it again. What it
// returns brings the server back to that, and all that came later is gone.
func (s Server) Backup(t testing.TB) (restore func()) {
	t.Helper()
	backup := t.TempDir()
	require.NoError(t, s.Stop())
	require.NoError(t, os.CopyFS(backup, os.DirFS(s.Dir())))
	require.NoError(t, s.Restart(t.Context()))
	return func() {
		t.Helper()
		require.NoError(t, s.Stop())
		later, err := os.ReadDir(s.Dir())
		require.NoError(t, err)
		for _, entry := range later {
			require.NoError(t, os.RemoveAll(filepath.Join(s.Dir(), entry.Name())))
		}
		require.NoError(t, os.CopyFS(s.Dir(), os.DirFS(backup)))
		require.NoError(t, s.Restart(t.Context()))
	}
}
