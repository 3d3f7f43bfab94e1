package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"

	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// conversation is what the program prints of what is said.
var conversation = []string{
	"kitchen    bot    *the best tool* is **the whisk**.",
	"workshop   bot    *the best tool* is **the hammer**.",
	"kitchen    bot    Nobody told me in this room what *lunch* is.",
}

func TestConversation(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitOK, run(t.Context(), []string{"-once"}, &stdout, &stderr), "%s", &stderr)
	for _, line := range append(conversation, "default    none") {
		require.Contains(t, stdout.String(), line)
	}
	require.Regexp(t, `kitchen    state key "": {"dev\.joe\.write":{.*},"the best tool":"the whisk"}`, stdout.String())
	require.Regexp(t, `workshop   state key "": {"dev\.joe\.write":{.*},"lunch":"at noon","the best tool":"the hammer"}`, stdout.String())
}

// After the conversation the program stays up, and whoever reads how to log in can
// do so and talk to the bot, until Ctrl-C.
func TestStaysUp(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var stdout lockedBuffer
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, nil, &stdout, io.Discard) }()
	require.Eventually(t, func() bool { return bytes.Contains(stdout.bytes(), []byte("Ctrl-C")) }, time.Minute, 20*time.Millisecond)

	printed := regexp.MustCompile(`homeserver +(\S+)\n +user +(\w+).*\n +password +(\S+)`).FindSubmatch(stdout.bytes())
	require.NotNil(t, printed, "%s", stdout.bytes())
	client, err := mautrix.NewClient(string(printed[1]), "", "")
	require.NoError(t, err)
	defer client.Client.CloseIdleConnections()
	_, err = client.Login(t.Context(), &mautrix.ReqLogin{
		Type:             mautrix.AuthTypePassword,
		Identifier:       mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: string(printed[2])},
		Password:         string(printed[3]),
		StoreCredentials: true,
	})
	require.NoError(t, err)
	rooms, err := client.JoinedRooms(t.Context())
	require.NoError(t, err)
	require.Len(t, rooms.JoinedRooms, len(invited))
	_, err = client.SendText(t.Context(), rooms.JoinedRooms[0], "what is tea")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		last, err := client.Messages(t.Context(), rooms.JoinedRooms[0], "", "", mautrix.DirectionBackward, nil, 1)
		return err == nil && last.Chunk[0].Content.Raw["body"] == "Nobody told me in this room what *tea* is."
	}, patience, 20*time.Millisecond)

	interrupt()
	require.Equal(t, exitOK, <-ended)
}

// A homeserver that dies is noticed while the program stays up.
func TestNoticesThatTheHomeserverEnded(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // where the program makes the server's folder
	var stdout, stderr lockedBuffer
	ended := make(chan int, 1)
	go func() { ended <- run(t.Context(), nil, &stdout, &stderr) }()
	require.Eventually(t, func() bool { return bytes.Contains(stdout.bytes(), []byte("Ctrl-C")) }, time.Minute, 20*time.Millisecond)
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), "*"))
	require.NoError(t, err)
	require.Len(t, dirs, 1)
	killHomeserver(t, dirs[0])
	select {
	case code := <-ended:
		require.Equal(t, exitFailed, code)
	case <-time.After(time.Minute):
		require.FailNow(t, "the program goes on without its homeserver")
	}
	require.Contains(t, string(stderr.bytes()), "the homeserver had ended by itself")
	require.NoDirExists(t, dirs[0])
}

// killHomeserver kills the process that runs in a folder.
func killHomeserver(t *testing.T, dir string) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	if len(processes) == 0 {
		t.Skip("this system does not show its processes in /proc")
	}
	for _, process := range processes {
		if cwd, err := os.Readlink(filepath.Join(process, "cwd")); err == nil && cwd == dir {
			pid, err := strconv.Atoi(filepath.Base(process))
			require.NoError(t, err)
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
			return
		}
	}
	require.FailNow(t, "no process runs in "+dir)
}

// Ctrl-C before the conversation is over is told from what goes wrong.
func TestInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	stdout := lockedBuffer{onWrite: interrupt} // the conversation has begun
	var stderr bytes.Buffer
	require.Equal(t, exitInterrupted, run(ctx, nil, &stdout, &stderr), "%s", &stderr)
	require.Contains(t, stderr.String(), "interrupted\n")
	require.NotContains(t, string(stdout.bytes()), "Ctrl-C")
}

// Nobody is told to invite a bot that did not come up.
func TestSaysWhatIsWrong(t *testing.T) {
	config := filepath.Join(t.TempDir(), "configuration.yaml")
	require.NoError(t, os.WriteFile(config, []byte(`
connectors:
  matrix:
    homeserver: http://127.0.0.1:1
    access_token: nobody listens there
    rooms:
      main: "#main:localhost"
    timeout: 100ms
`), 0o600))
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitFailed, run(t.Context(), []string{"-config", config}, &stdout, &stderr))
	require.Contains(t, stderr.String(), "access_token: holds a blank")
	require.Empty(t, stdout.String())
}

// With -config the bot runs on the homeserver of a configuration.
func TestOwnHomeserver(t *testing.T) {
	server, err := homeserver.Start(t.Context(), homeserver.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	stage, err := build(t.Context(), server)
	require.NoError(t, err)
	config := filepath.Join(t.TempDir(), "configuration.yaml")
	t.Setenv("ROOMS_TEST_PASSWORD", password)
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
connectors:
  matrix:
    homeserver: %s
    mxid: "%s"
    password: $ROOMS_TEST_PASSWORD
    rooms:
      main: "%s"
`, server.URL(), stage.robot.UserID, stage.rooms["default"]), 0o600))

	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	ended := make(chan int, 1)
	var stdout lockedBuffer
	var stderr, said bytes.Buffer
	go func() { ended <- run(ctx, []string{"-config", config}, &stdout, &stderr) }()
	require.NoError(t, stage.play(t.Context(), &said))
	for _, line := range conversation {
		require.Contains(t, said.String(), line)
	}
	interrupt()
	require.Equal(t, exitOK, <-ended, "%s", &stderr)
	require.Contains(t, string(stdout.bytes()), "Ctrl-C ends it.")
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-nonsense"}, {"argument"}, {"-once", "-config", "x"}} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, exitUsage, run(t.Context(), args, &stdout, &stderr))
		require.NotEmpty(t, stderr.String())
	}
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitFailed, run(t.Context(), []string{"-config", "no-such-file"}, &stdout, &stderr))
	require.Contains(t, stderr.String(), "no-such-file")
}

// A lockedBuffer can be read while it is written.
type lockedBuffer struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	onWrite func() // or nil
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.onWrite != nil {
		b.onWrite()
	}
	return b.buf.Write(p)
}

func (b *lockedBuffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}
