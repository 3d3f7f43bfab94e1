package journal

import (
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func init() {
	limitFiles = func(size int) error {
		signal.Ignore(syscall.SIGXFSZ) // the write fails instead
		return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(size), Max: uint64(size)})
	}
}

// A disk that is full, or another limit: nothing that was acknowledged is lost, and the next start has it.
func TestFull(t *testing.T) {
	for seed := range uint64(3) {
		path := newPath(t)
		h := heard{map[string]int{}, map[string]int{}, map[string]int{}}
		lines, cmd := orders{Path: path, Seed: seed, First: 1, Limit: 1 << 16}.start(t)
		for lines.Scan() && h.note(t, lines.Text()) {
		}
		said := lines.Text()
		require.Error(t, cmd.Wait())
		require.Contains(t, said, "file too large")
		require.Contains(t, said, path)
		require.NoFileExists(t, path)
		failed := must(os.ReadFile(path + failedSuffix))

		// There is still no room at the next start.
		lines, cmd = orders{Path: path, Seed: seed, First: 1, Limit: 1 << 13}.start(t)
		require.True(t, lines.Scan())
		require.Contains(t, lines.Text(), "file too large")
		require.Error(t, cmd.Wait())
		require.NoFileExists(t, path)
		require.NoFileExists(t, path+newSuffix)
		require.Equal(t, failed, must(os.ReadFile(path+failedSuffix)))

		j := open(t, path, "")
		room, _ := current(j)
		require.NotEmpty(t, j.Changes(room))
		h.require(t, j)
		require.NoFileExists(t, path+failedSuffix)
		require.NoError(t, j.Put(room, set("tea", "1")))
	}
}
