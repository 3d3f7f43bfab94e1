package homeserver

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
// takes its time. It returns a folder for what may come to lie beside them.
func emptyCache(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cache := filepath.Join(dir, "cache")
	t.Setenv("GOCACHE", filepath.Join(cache, "go"))
	t.Setenv("HOME", cache)
	t.Setenv("XDG_CACHE_HOME", cache)
	return dir
}

func TestStartCancelledWhileBuilding(t *testing.T) {
	modules, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
	require.NoError(t, err)
	t.Setenv("GOMODCACHE", strings.TrimSpace(string(modules)))
	work := emptyCache(t)
	t.Setenv("GOTMPDIR", work)
	t.Setenv("GOFLAGS", "-mod=vendor -race") // meant for others, and would fail here

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := filepath.Join(t.TempDir(), "data")
	_, err = Start(ctx, Options{Dir: dir, Software: software(t), Progress: onLine{"s so far", cancel}})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, traits[software(t)].making)
	require.NoDirExists(t, dir)
	require.Eventually(t, func() bool { return len(commandsWith(t, work)) == 0 }, 30*time.Second, 50*time.Millisecond,
		"a command still runs")
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

func TestProductWaitsForTheOneUnderWay(t *testing.T) {
	p := product{t.TempDir(), "program", "building the homeserver", func(context.Context, string) error {
		return errors.New("it is made twice")
	}}
	lock := func() *os.File {
		other, ok, err := tryLock(filepath.Join(p.dir, "lock"))
		require.NoError(t, err)
		require.True(t, ok)
		return other
	}

	// The other one finishes its program while we wait.
	other := lock()
	program := filepath.Join(p.dir, "program")
	finish := onLine{"another process is building", func() {
		require.NoError(t, os.WriteFile(program, nil, 0o755))
		require.NoError(t, other.Close())
	}}
	made, err := p.get(t.Context(), finish)
	require.NoError(t, err)
	require.Equal(t, program, made)

	// The other one never finishes, and the caller gives up.
	require.NoError(t, os.Remove(program))
	defer lock().Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err = p.get(ctx, onLine{"another process is building", cancel})
	require.ErrorIs(t, err, context.Canceled)
}

func TestHalfAProductIsNotTakenForAll(t *testing.T) {
	cutOff := errors.New("cut off")
	half := product{t.TempDir(), "venv", "installing it", func(_ context.Context, path string) error {
		require.NoError(t, os.Mkdir(path, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(path, "old"), nil, 0o644))
		return cutOff
	}}
	_, err := half.get(t.Context(), io.Discard)
	require.ErrorIs(t, err, cutOff)

	whole, times := half, 0
	whole.make = func(_ context.Context, path string) error {
		times++
		require.NoDirExists(t, path)
		return os.Mkdir(path, 0o755)
	}
	for range 2 {
		path, err := whole.get(t.Context(), io.Discard)
		require.NoError(t, err)
		require.DirExists(t, path)
		require.NoFileExists(t, filepath.Join(path, "old"))
	}
	require.Equal(t, 1, times)
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
