package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ctrl-C ends the tool while it waits for the homeserver, and while it reads a value.
func TestCtrlC(t *testing.T) {
	asked := make(chan struct{}, 100)
	over := make(chan struct{})
	mute := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{}; <-over }))
	t.Cleanup(mute.Close)
	t.Cleanup(func() { close(over) })
	file := filepath.Join(t.TempDir(), "configuration.yaml")
	text := strings.NewReplacer("$HOMESERVER", mute.URL, "$USER_ID", `"@bot:example.org"`, "$TOKEN", "token", "$ROOM", `"!room:example.org"`).Replace(configuration)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))

	for _, args := range [][]string{{"get", "tea"}, {"status"}, {"show"}} {
		t.Run(args[0], func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			cmd := exec.Command("matrix-memory", append([]string{"-config", file}, args...)...)
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			require.NoError(t, cmd.Start())
			<-asked
			require.NoError(t, cmd.Process.Signal(os.Interrupt))
			_ = cmd.Wait()
			require.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode(), "%s", &stderr)
			require.Empty(t, stdout.String())
			require.Equal(t, "matrix-memory: interrupted\n", stderr.String())
		})
	}
}
