package homeserver

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRequirementsPinSynapse(t *testing.T) {
	require.Regexp(t, `(?m)^matrix-synapse==`+synapseVersion+`$`, string(requirements))
	require.NotRegexp(t, `(?m)^[^#\n]*(//|@|[<>])`, string(requirements))
}

// Settings of pip that are meant for others do not spoil an installation, and one
// that they have spoilt is not kept.
func TestInstallationIsKeptOnlyIfItRuns(t *testing.T) {
	if software(t) != Synapse {
		return
	}
	made := filepath.Join(emptyCache(t), "matrix-memory", "*")
	t.Setenv("PIP_DRY_RUN", "1")
	_, err := Start(t.Context(), Options{Dir: t.TempDir(), Software: Synapse})
	require.ErrorContains(t, err, "No module named 'synapse'")
	require.NotContains(t, err.Error(), "\n")
	require.Equal(t, []string{"lock"}, filesIn(t, made, "*"))

	t.Setenv("PIP_DRY_RUN", "")
	for _, name := range []string{"PIP_PREFIX", "PIP_ROOT", "PIP_TARGET"} {
		t.Setenv(name, t.TempDir())
	}
	t.Setenv("PIP_USER", "1")
	startServer(t, t.TempDir())
	require.Equal(t, []string{"lock", "venv"}, filesIn(t, made, "*"))
}

// Whoever waits for a python that does not answer can give up.
func TestPythonThatDoesNotAnswer(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	asked := filepath.Join(dir, "asked")
	script := "#!/bin/sh\n" + `/bin/sh -c "> ` + asked + `; sleep 1000; exit 1"` + "\nexit 1\n" // a wrapper, as pyenv has
	require.NoError(t, os.WriteFile(filepath.Join(dir, "python3"), []byte(script), 0o755))

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var asking sync.WaitGroup
	defer asking.Wait()
	asking.Go(func() { waitForFile(ctx, t, dir, "asked"); cancel() })
	_, err := Start(ctx, Options{Dir: t.TempDir(), Software: Synapse})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "python3")
	require.Empty(t, commandsWith(t, dir), "commands still run")
}
