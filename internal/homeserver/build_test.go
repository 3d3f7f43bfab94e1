package homeserver

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

// emptyCache makes the test start with empty caches, so that making the server
// takes its time. It returns the folder that they are in.
func emptyCache(t *testing.T) string {
	t.Helper()
	cache := filepath.Join(t.TempDir(), "cache")
	t.Setenv("GOCACHE", filepath.Join(cache, "go"))
	t.Setenv("HOME", cache)
	t.Setenv("XDG_CACHE_HOME", cache)
	return cache
}

// Whenever the caller gives up, nothing is left running or lying about.
func TestStartCancelledWhileBuilding(t *testing.T) {
	modules, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
	require.NoError(t, err)
	t.Setenv("GOMODCACHE", strings.TrimSpace(string(modules)))
	t.Setenv("GOFLAGS", "-mod=vendor -race") // meant for others, and would fail here

	for name, moment := range map[string]struct{ line, file string }{
		"at once":                   {line: "may take some minutes"},
		"when tools have begun":     {line: "may take some minutes", file: traits[software(t)].temporary},
		"when it has taken a while": {line: "s so far"},
	} {
		t.Run(name, func(t *testing.T) {
			cache, temporary := emptyCache(t), t.TempDir()
			t.Setenv("TMPDIR", temporary)
			made := filepath.Join(cache, "matrix-memory", "*")
			ctx, cancel := context.WithCancel(t.Context())
			var waiting sync.WaitGroup
			dir := filepath.Join(t.TempDir(), "data")
			_, err := Start(ctx, Options{Dir: dir, Software: software(t), Progress: onLine{moment.line, func() {
				if moment.file == "" {
					cancel()
					return
				}
				waiting.Go(func() { waitForFile(ctx, t, filepath.Join(made, "unfinished", "*"), moment.file); cancel() })
			}}})
			cancel()
			waiting.Wait()
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorContains(t, err, traits[software(t)].making)
			require.Empty(t, commandsWith(t, cache), "commands still run")
			require.NoDirExists(t, dir)
			require.Empty(t, filesIn(t, temporary, "*"))
			require.Equal(t, []string{"lock"}, filesIn(t, made, "*"))
		})
	}
}

// filesIn lists what has a name like pattern in folders like dir.
func filesIn(t *testing.T, dir, pattern string) []string {
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	assert.NoError(t, err)
	for i, file := range files {
		files[i] = filepath.Base(file)
	}
	return files
}

// waitForFile waits until a folder like dir has a file with a name like pattern,
// or ctx ends.
func waitForFile(ctx context.Context, t *testing.T, dir, pattern string) {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for len(filesIn(t, dir, pattern)) == 0 {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// commandsWith lists the processes with text in their command line, on systems
// that show them in /proc.
func commandsWith(t *testing.T, text string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	var found []string
	for _, file := range files {
		if line, err := os.ReadFile(file); err == nil && strings.Contains(string(line), text) {
			found = append(found, string(line))
		}
	}
	return found
}

func TestStartWithoutTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Start(t.Context(), Options{Dir: t.TempDir(), Software: software(t)})
	require.ErrorContains(t, err, traits[software(t)].tool)
	require.NotContains(t, err.Error(), "\n")
}

func TestStartOffline(t *testing.T) {
	t.Setenv("GOMODCACHE", emptyCache(t))
	for name, value := range traits[software(t)].offline {
		t.Setenv(name, value)
	}
	_, err := Start(t.Context(), Options{Dir: t.TempDir(), Software: software(t)})
	require.ErrorContains(t, err, traits[software(t)].making)
	require.ErrorContains(t, err, traits[software(t)].source)
}
