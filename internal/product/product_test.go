package product

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/process"
)

// onLine calls f for each line of progress that holds text.
type onLine struct {
	text string
	f    func()
}

func (w onLine) Write(b []byte) (int, error) {
	if strings.Contains(string(b), w.text) {
		w.f()
	}
	return len(b), nil
}

// filesIn lists what is in a folder.
func filesIn(t *testing.T, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestProductWaitsForTheOneUnderWay(t *testing.T) {
	p := Product{Dir: t.TempDir(), Name: "program", Doing: "building it", Make: func(context.Context, string) error {
		return errors.New("it is made twice")
	}}
	lock := func() *os.File {
		other, ok, err := process.TryLock(filepath.Join(p.Dir, "lock"))
		require.NoError(t, err)
		require.True(t, ok)
		return other
	}

	// The other one finishes its program while we wait.
	other := lock()
	program := filepath.Join(p.Dir, "program")
	finish := onLine{"another process is building", func() {
		require.NoError(t, os.WriteFile(program, nil, 0o755))
		require.NoError(t, other.Close())
	}}
	made, err := p.Get(t.Context(), finish)
	require.NoError(t, err)
	require.Equal(t, program, made)

	// The other one never finishes, and the caller gives up.
	require.NoError(t, os.Remove(program))
	defer lock().Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err = p.Get(ctx, onLine{"another process is building", cancel})
	require.ErrorIs(t, err, context.Canceled)
}

func TestHalfAProductIsNotTakenForAll(t *testing.T) {
	cutOff := errors.New("cut off")
	half := Product{Dir: t.TempDir(), Name: "venv", Doing: "installing it", Make: func(_ context.Context, path string) error {
		require.NoError(t, os.Mkdir(path, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(path, "old"), nil, 0o644))
		return cutOff
	}}
	_, err := half.Get(t.Context(), io.Discard)
	require.ErrorIs(t, err, cutOff)

	whole, times := half, 0
	whole.Make = func(_ context.Context, path string) error {
		times++
		require.NoDirExists(t, path)
		return os.Mkdir(path, 0o755)
	}
	for range 2 {
		path, err := whole.Get(t.Context(), io.Discard)
		require.NoError(t, err)
		require.DirExists(t, path)
		require.NoFileExists(t, filepath.Join(path, "old"))
	}
	require.Equal(t, 1, times)
}

// Commands that a killed program had started may go on for a while. They are in
// nobody's way, and what they leave goes when the product is made.
func TestProductBesideWhatAKilledProgramStarted(t *testing.T) {
	p := Product{Dir: t.TempDir(), Name: "venv", Doing: "installing it"}
	end := make(chan struct{})
	var orphan sync.WaitGroup
	p.Make = func(_ context.Context, path string) error {
		ticker := time.NewTicker(100 * time.Microsecond)
		orphan.Go(func() {
			defer ticker.Stop()
			for n := 0; ; n++ {
				_ = os.MkdirAll(path, 0o755)
				_ = os.WriteFile(filepath.Join(path, strconv.Itoa(n)), nil, 0o644)
				select {
				case <-ticker.C:
				case <-end:
					return
				}
			}
		})
		return errors.New("killed")
	}
	_, err := p.Get(t.Context(), io.Discard)
	require.Error(t, err)

	p.Make = func(_ context.Context, path string) error { return os.Mkdir(path, 0o755) }
	for range 2 {
		path, err := p.Get(t.Context(), io.Discard)
		require.NoError(t, err)
		require.Empty(t, filesIn(t, path))
		require.NoError(t, os.Remove(path))
	}

	close(end)
	orphan.Wait()
	_, err = p.Get(t.Context(), io.Discard)
	require.NoError(t, err)
	require.Equal(t, []string{"lock", "venv"}, filesIn(t, p.Dir))
}
