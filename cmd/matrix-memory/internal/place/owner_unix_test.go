//go:build unix

package place

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReplaceKeepsTheOwner has another user's file replaced, where the test may give files away.
func TestReplaceKeepsTheOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "joe.json")
	require.NoError(t, os.WriteFile(path, []byte("{}"), 0o640))
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 1234, 1235
		require.NoError(t, os.Chown(path, uid, gid))
	}
	require.NoError(t, Replace(path, []byte("new")))
	info, err := os.Stat(path)
	require.NoError(t, err)
	is := info.Sys().(*syscall.Stat_t)
	require.Equal(t, []int{uid, gid, 0o640}, []int{int(is.Uid), int(is.Gid), int(info.Mode().Perm())})
}

// TestReplaceKeepsLinks writes through links, also where what they name is not there yet.
func TestReplaceKeepsLinks(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, "data"), 0o700))
	link, second := filepath.Join(folder, "link"), filepath.Join(folder, "second")
	require.NoError(t, os.Symlink("data/file", link))
	require.NoError(t, os.Symlink(link, second))
	for _, text := range []string{"first", "again"} {
		require.NoError(t, Replace(second, []byte(text)))
		content, err := os.ReadFile(filepath.Join(folder, "data", "file"))
		require.NoError(t, err)
		require.Equal(t, text, string(content))
		for _, path := range []string{link, second} {
			_, err := os.Readlink(path)
			require.NoError(t, err)
		}
	}
	loop := filepath.Join(folder, "loop")
	require.NoError(t, os.Symlink("loop", loop))
	require.Error(t, Replace(loop, nil))
}
