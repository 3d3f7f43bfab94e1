package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// TestMain makes the test binary the program itself where a test asks for it, so
// that the tests see its real input, output, exit code and signals.
func TestMain(m *testing.M) {
	if os.Getenv("REMEMBER_RUN") != "" {
		main()
	}
	os.Exit(m.Run())
}

// A program is the program as it runs.
type program struct {
	*exec.Cmd
	stdout, stderr output
}

// command returns the program, not started yet. It is killed if the test ends
// before it does.
func command(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{Cmd: exec.CommandContext(t.Context(), os.Args[0], args...)}
	p.Env = append(os.Environ(), "REMEMBER_RUN=1")
	p.Stdout, p.Stderr = &p.stdout, &p.stderr
	return p
}

// pipe runs the program on an input and returns what it answered.
func pipe(t *testing.T, input string, args ...string) (answers []string) {
	t.Helper()
	p := command(t, args...)
	p.Stdin = strings.NewReader(input)
	require.NoError(t, p.Run(), "the program said: %s", &p.stderr)
	return strings.Split(strings.TrimSpace(p.stdout.String()), "\n")
}

// An output is a buffer that may be read while the program writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// waitFor waits until the program has written a text.
func (o *output) waitFor(t *testing.T, text string) {
	t.Helper()
	written := func() bool { return strings.Contains(o.String(), text) }
	require.Eventually(t, written, 2*time.Minute, 10*time.Millisecond, "no %q in: %s", text, o)
}

// dataDir returns a folder for the program's data that need not be empty when
// the test ends.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "remember-test-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestRemembersOverRestarts(t *testing.T) {
	data := dataDir(t)

	answers := pipe(t, "remember tea is green\nwhat is tea?\nshow keys\nforget milk\n\nwhat is milk", "-data", data)
	require.Equal(t, []string{
		"I'll remember that tea is green.",
		"tea is green.",
		"tea",
		"I never knew what milk is.",
		"I don't know what milk is.", // a last line that no line break ends counts
	}, answers)

	answers = pipe(t, "what is tea\nshow room\nforget tea\nwhat is tea\nshow keys\nhello\n", "-data", data)
	require.Equal(t, "tea is green.", answers[0])
	require.Contains(t, strings.Join(answers, "\n"), `"type":"m.room.create"`)
	room := len(answers) - len(strings.Split(help, "\n")) - 3
	require.Regexp(t, `^{"content":{"dev\.joe\.write":{.*},"tea":"green"},`, answers[room-1], "the memory is what show room shows last")
	require.Equal(t, []string{
		"I no longer know what tea is.",
		"I don't know what tea is.",
		"I remember nothing.",
		help,
	}, append(answers[room:room+3:room+3], strings.Join(answers[room+3:], "\n")))
}

func TestStartsAfresh(t *testing.T) {
	data := dataDir(t)
	pipe(t, "remember tea is green\n", "-data", data)
	require.Equal(t, []string{"I remember nothing."}, pipe(t, "show keys\n", "-data", data, "-fresh"))
	require.Equal(t, []string{"I remember nothing."}, pipe(t, "show keys\n", "-data", data))
}

// While the homeserver is away nothing is different for who chats, and once it is back the
// room has all. It may be shown again, and in a new room.
func TestRemembersWithoutTheHomeserver(t *testing.T) {
	data := dataDir(t)
	for _, args := range [][]string{nil, nil, {"-fresh"}} {
		remembersWithoutTheHomeserver(t, data, args...)
		require.Equal(t, []string{"coffee is black."}, pipe(t, "what is coffee", "-data", data))
	}
}

// remembersWithoutTheHomeserver runs -offline to its end.
func remembersWithoutTheHomeserver(t *testing.T, data string, args ...string) {
	t.Helper()
	answers := pipe(t, "", append(args, "-data", data, "-offline")...)
	require.GreaterOrEqual(t, len(answers), 20)
	room := len(answers) - 2 // with the line that quits
	require.Equal(t, []string{
		"> remember tea is green",
		"I'll remember that tea is green.",
		"> stop the homeserver",
		"It is stopped. What I remember now is in the journal, " + filepath.Join(data, "journal.db") + ".",
		"> what is tea",
		"tea is green.",
		"> remember coffee is black",
		"I'll remember that coffee is black.",
		"> remember milk is cold",
		"I'll remember that milk is cold.",
		"> forget tea",
		"I no longer know what tea is.",
		"> show keys",
		"coffee",
		"milk",
		"> start the homeserver",
		"It runs again, and has the 3 changes that were made without it.",
		"> show room",
	}, answers[:18])
	require.Regexp(t, `^{"content":{"coffee":"black","dev\.joe\.write":{.*},"milk":"cold"},`, answers[room])
	require.Equal(t, "> quit", answers[room+1])
}

// Ctrl-C ends it in good order whenever it comes, also while the homeserver is stopped or
// starts, and what was begun then can be gone on with.
func TestCtrlCEndsTheShow(t *testing.T) {
	data := dataDir(t)
	for _, at := range []string{
		"starting the homeserver",
		"the homeserver answers",
		"the memory is in the room",
		"> remember tea is green",
		"> stop the homeserver",
		"It is stopped.",
		"> remember milk is cold",
		"> start the homeserver",
		"It runs again",
	} {
		p := command(t, "-data", data, "-offline")
		said := new(output) // on either way
		p.Stdout, p.Stderr = io.MultiWriter(&p.stdout, said), io.MultiWriter(&p.stderr, said)
		require.NoError(t, p.Start())
		said.waitFor(t, at)
		require.NoError(t, p.Process.Signal(syscall.SIGINT))
		_ = p.Wait() // the exit code says it
		code := p.ProcessState.ExitCode()
		require.Contains(t, []int{exitOK, exitInterrupted}, code, "%s: the program said: %s", at, &p.stderr)
		if p.stdout.String() != "" {
			require.Equal(t, exitOK, code, "%s: there was a chat to end", at)
		}
		require.NotContains(t, p.stderr.String(), "remember:", at)
	}
	remembersWithoutTheHomeserver(t, data)
}

// One folder serves one program at a time; a second one says what to do.
func TestTwoOnOneFolder(t *testing.T) {
	data := dataDir(t)
	first := command(t, "-data", data)
	stdin, err := first.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, first.Start())
	_, err = io.WriteString(stdin, "remember tea is green\n")
	require.NoError(t, err)
	first.stdout.waitFor(t, "I'll remember")

	second := command(t, "-data", data)
	_ = second.Run() // the exit code says it
	require.Equal(t, exitFailed, second.ProcessState.ExitCode())
	require.Contains(t, second.stderr.String(), "with its data in "+data+"; use that one, or name another folder with -data")

	require.NoError(t, stdin.Close())
	require.NoError(t, first.Wait(), "the program said: %s", &first.stderr)
}

// A homeserver that ended by itself is no good end.
func TestSaysThatTheHomeserverEnded(t *testing.T) {
	data := dataDir(t)
	p := command(t, "-data", data)
	stdin, err := p.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	_, err = io.WriteString(stdin, "show keys\n")
	require.NoError(t, err)
	p.stdout.waitFor(t, "I remember nothing.")
	killHomeserver(t, filepath.Join(data, "homeserver"))
	require.NoError(t, stdin.Close())
	_ = p.Wait() // the exit code says it
	require.Equal(t, exitFailed, p.ProcessState.ExitCode())
	require.Contains(t, p.stderr.String(), "the homeserver had ended by itself")
}

// killHomeserver kills the process that runs in a folder, and waits until it is gone.
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
			gone := func() bool { _, err := os.Stat(process); return err != nil }
			require.Eventually(t, gone, time.Minute, time.Millisecond)
			return
		}
	}
	require.FailNow(t, "no process runs in "+dir)
}

func TestCtrlCEndsTheChat(t *testing.T) {
	data := dataDir(t)
	p := command(t, "-data", data)
	stdin, err := p.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	_, err = io.WriteString(stdin, "remember tea is green\n")
	require.NoError(t, err)
	p.stdout.waitFor(t, "I'll remember")
	require.NoError(t, p.Process.Signal(syscall.SIGINT))
	require.NoError(t, p.Wait(), "the program said: %s", &p.stderr)

	require.Equal(t, []string{"tea is green."}, pipe(t, "what is tea\n", "-data", data))
}

func TestCtrlCEndsTheBuild(t *testing.T) {
	p := command(t, "-data", dataDir(t))
	empty := dataDir(t) // no homeserver has been built here
	p.Env = append(p.Env, "HOME="+empty, "XDG_CACHE_HOME="+empty, "GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"))
	require.NoError(t, p.Start())
	p.stderr.waitFor(t, "building the homeserver")
	require.NoError(t, p.Process.Signal(syscall.SIGINT))

	var exit *exec.ExitError
	require.ErrorAs(t, p.Wait(), &exit)
	require.Equal(t, exitInterrupted, exit.ExitCode(), "the program said: %s", &p.stderr)
	require.Contains(t, p.stderr.String(), "interrupted")
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	value, err := exec.Command("go", "env", name).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(value))
}

func TestUsesTheUsersHomeserver(t *testing.T) {
	server, err := homeserver.Start(t.Context(), homeserver.Options{Dir: dataDir(t), Progress: t.Output()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	account, err := server.Register(t.Context(), strings.ToLower(rand.Text()), "a password")
	require.NoError(t, err)
	client, err := mautrix.NewClient(server.URL(), id.UserID(account.UserID), account.AccessToken)
	require.NoError(t, err)
	defer client.Client.CloseIdleConnections()
	room, err := client.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "private_chat"})
	require.NoError(t, err)

	file := filepath.Join(t.TempDir(), "configuration.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`connectors:
  matrix:
    homeserver: `+server.URL()+`
    mxid: "`+account.UserID+`"
    password: $REMEMBER_PASSWORD
    rooms:
      tearoom: "`+room.RoomID.String()+`"
databases:
  matrix:
    default_room: tearoom
    single_state_key: false
`), 0o600))
	t.Setenv("REMEMBER_PASSWORD", account.Password)
	require.Equal(t, []string{"I'll remember that tea is green."}, pipe(t, "remember tea is green", "-config", file))

	content, err := client.State(context.Background(), room.RoomID)
	require.NoError(t, err)
	found := false
	for eventType, events := range content {
		if eventType.Type == "dev.opsdroid.database" {
			found = true
			require.JSONEq(t, `{"tea":"green"}`, string(events["tea"].Content.VeryRaw))
		}
	}
	require.True(t, found, "the memory is in the room")
}

func TestSaysWhatIsWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "configuration.yaml")
	require.NoError(t, os.WriteFile(file, []byte("connectors:\n  matrix:\n    homeservr: x\n"), 0o600))
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"help":              {[]string{"-help"}, exitOK, "-config"},
		"unknown flag":      {[]string{"-frsh"}, exitUsage, "-frsh"},
		"argument":          {[]string{"what", "is", "tea"}, exitUsage, `unexpected argument "what"`},
		"config offline":    {[]string{"-config", file, "-offline"}, exitUsage, "can't go with -config"},
		"config with fresh": {[]string{"-config", file, "-fresh"}, exitUsage, "can't go with -config"},
		"misspelt setting":  {[]string{"-config", file}, exitFailed, file + `:3: unknown key "homeservr"; did you mean homeserver?`},
		"missing file":      {[]string{"-config", file + "x"}, exitFailed, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			p := command(t, c.args...)
			_ = p.Run() // the exit code says it
			require.Equal(t, c.code, p.ProcessState.ExitCode(), "the program said: %s", &p.stderr)
			require.Contains(t, p.stderr.String(), c.says)
			require.Empty(t, p.stdout.String())
		})
	}
}
