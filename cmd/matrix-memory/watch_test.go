package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/rig"
)

// watch prints what the bot and others change, as lines of text or of JSON, until Ctrl-C.
func TestWatch(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			bot := rig.Register(t)
			conf := bot.Config(bot.NewRoom(t))
			conf.UserID, conf.SingleStateKey = bot.UserID.String(), layout
			memory := rig.Open(t, conf)
			file := filepath.Join(t.TempDir(), "configuration.yaml")
			setting := map[string]string{"single": "true", "custom": "my.key", "perkey": "false"}[name]
			text := strings.NewReplacer("$HOMESERVER", conf.Homeserver, "$USER_ID", `"`+bot.UserID.String()+`"`, "$TOKEN", bot.AccessToken, "$ROOM", `"`+conf.Rooms["main"]+`"`,
				"timeout: 15s", "single_state_key: "+setting).Replace(configuration)
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))

			plain, stopPlain := watching(t, "-config", file, "watch")
			lines, stopLines := watching(t, "-config", file, "watch", "te", "-json")
			tells := func(what string) {
				t.Helper()
				const when = `^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ  `
				require.Regexp(t, when+regexp.QuoteMeta(bot.UserID.String()+"  "+what)+"$", next(t, plain))
			}
			require.NoError(t, memory.Set("coffee", []byte(`1`)))
			tells(`coffee  = 1`)
			require.NoError(t, memory.Set("tea", []byte(`{"colour":"green"}`)))
			tells(`tea  = {"colour":"green"}`)
			var change changeLine
			require.NoError(t, json.Unmarshal([]byte(next(t, lines)), &change))
			require.Equal(t, changeLine{Time: change.Time, Sender: bot.UserID.String(), EventID: change.EventID, Room: conf.Rooms["main"], Key: "tea", Value: json.RawMessage(`{"colour":"green"}`)}, change)
			require.NotEmpty(t, change.EventID)
			require.False(t, change.Time.IsZero())
			_, err := memory.Delete("tea")
			require.NoError(t, err)
			tells(`tea  deleted`)
			require.NoError(t, json.Unmarshal([]byte(next(t, lines)), &change))
			require.True(t, change.Deleted)
			stopPlain()
			stopLines()
		})
	}
}

// watching starts a watch, and returns what it prints once it watches, and what ends it as Ctrl-C does.
func watching(t *testing.T, args ...string) (stdout *bufio.Reader, stop func()) {
	cmd := exec.Command("matrix-memory", args...)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	messages, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	stderr := bufio.NewReader(messages)
	require.Contains(t, next(t, stderr), "matrix-memory: watching room main")
	return bufio.NewReader(out), func() {
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		rest, err := io.ReadAll(stderr)
		require.NoError(t, err)
		require.Equal(t, "matrix-memory: interrupted\n", string(rest))
		_ = cmd.Wait()
		require.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode())
	}
}

func next(t *testing.T, lines *bufio.Reader) string {
	t.Helper()
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSuffix(line, "\n")
}

// changeEvent has an environment variable name the event that has changed a key, as history says on a line that holds a
// text: event NAME KEY TEXT.
func changeEvent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: event NAME KEY TEXT")
	}
	ts.Check(ts.Exec("matrix-memory", "history", args[1]))
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if fields := strings.Fields(line); strings.Contains(line, args[2]) {
			ts.Setenv(args[0], fields[2])
			return
		}
	}
	ts.Fatalf("no event of %s holds %s", args[1], args[2])
}
