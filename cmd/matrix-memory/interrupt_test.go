package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A device that stays, as the homeserver does not log it out, is named.
func TestFailedLogout(t *testing.T) {
	homeserver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/_matrix/client/versions":
			_, _ = io.WriteString(w, `{"versions":["v1.11"]}`)
		case "/_matrix/client/v3/login":
			_, _ = io.WriteString(w, `{"user_id":"@bot:example.org","access_token":"token","device_id":"TOOL"}`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(homeserver.Close)
	file := filepath.Join(t.TempDir(), "configuration.yaml")
	text := strings.NewReplacer("$HOMESERVER", homeserver.URL, "$USER_ID", `"@bot:example.org"`, "access_token: $TOKEN", "password: secret", "$ROOM", `"!room:example.org"`).Replace(configuration)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	for _, command := range []string{"status", "show", "ls"} {
		t.Run(command, func(t *testing.T) {
			output, err := exec.Command("matrix-memory", "-config", file, command).CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(output), "the device TOOL stays in the account's list of devices")
		})
	}
}

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

// Ctrl-C, or the end of the terminal, while the tool logs in or uses what it logged in for leaves no device behind.
func TestInterruptedLogin(t *testing.T) {
	for _, end := range []os.Signal{os.Interrupt, syscall.SIGHUP} {
		for _, command := range []string{"status", "show", "ls"} {
			t.Run(end.String()+" "+command, func(t *testing.T) {
				var loggedOut atomic.Bool
				asked, signalled := make(chan struct{}), make(chan struct{})
				homeserver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					switch r.URL.Path {
					case "/_matrix/client/versions":
						_, _ = io.WriteString(w, `{"versions":["v1.11"]}`)
					case "/_matrix/federation/v1/version":
						http.NotFound(w, r)
					case "/_matrix/client/v3/login":
						close(asked)
						<-signalled
						select {
						case <-r.Context().Done(): // it has hung up
						case <-time.After(300 * time.Millisecond):
						}
						_, _ = io.WriteString(w, `{"user_id":"@bot:example.org","access_token":"token","device_id":"TOOL"}`)
					case "/_matrix/client/v3/logout":
						loggedOut.Store(true)
						_, _ = io.WriteString(w, `{}`)
					default:
						<-r.Context().Done()
					}
				}))
				t.Cleanup(homeserver.Close)
				file := filepath.Join(t.TempDir(), "configuration.yaml")
				text := strings.NewReplacer("$HOMESERVER", homeserver.URL, "$USER_ID", `"@bot:example.org"`, "access_token: $TOKEN", "password: secret", "$ROOM", `"!room:example.org"`).Replace(configuration)
				require.NoError(t, os.WriteFile(file, []byte(text), 0o600))

				var stderr bytes.Buffer
				cmd := exec.Command("matrix-memory", "-config", file, command)
				cmd.Stderr = &stderr
				require.NoError(t, cmd.Start())
				<-asked
				require.NoError(t, cmd.Process.Signal(end))
				close(signalled)
				_ = cmd.Wait()
				require.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode(), "%s", &stderr)
				require.Equal(t, "matrix-memory: interrupted\n", stderr.String())
				require.True(t, loggedOut.Load())
			})
		}
	}
}
