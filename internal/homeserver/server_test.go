package homeserver

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "correct horse battery"

// startServer starts a server that is stopped when the test ends.
func startServer(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Start(t.Context(), Options{Dir: dir, Progress: t.Output()})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.Stop())
		if t.Failed() {
			t.Log(s.Log())
		}
	})
	return s
}

// user talks to a server, or to a proxy before it, with a plain HTTP client.
type user struct {
	Account
	base string
}

func register(t *testing.T, s *Server, name string) user {
	t.Helper()
	account, err := s.Register(t.Context(), name, password)
	require.NoError(t, err)
	return user{account, s.URL()}
}

// do sends a request and returns the status and body of the answer.
func (u user) do(ctx context.Context, method, path string, content any) (int, http.Header, string, error) {
	body, err := json.Marshal(content)
	if err != nil {
		return 0, nil, "", err
	}
	req, err := http.NewRequestWithContext(ctx, method, u.base+"/_matrix/client/v3"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	req.Header.Set("Authorization", "Bearer "+u.AccessToken)
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(text), err
}

func (u user) must(t *testing.T, method, path string, content any) string {
	t.Helper()
	status, _, text, err := u.do(t.Context(), method, path, content)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status, text)
	return text
}

func (u user) createRoom(t *testing.T) string {
	t.Helper()
	var room struct {
		ID string `json:"room_id"`
	}
	require.NoError(t, json.Unmarshal([]byte(u.must(t, http.MethodPost, "/createRoom", map[string]any{})), &room))
	return room.ID
}

func statePath(room, key string) string {
	return "/rooms/" + url.PathEscape(room) + "/state/test.memory/" + url.PathEscape(key)
}

type content map[string]any

func TestStateSurvivesKillStopAndStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	s := startServer(t, dir)
	require.Equal(t, dir, s.Dir())
	alice := register(t, s, "alice")
	require.Equal(t, "@alice:"+s.Name(), alice.UserID)
	room := alice.createRoom(t)
	alice.must(t, http.MethodPut, statePath(room, "a/b"), content{"n": 1})

	require.NoError(t, s.Kill())
	require.NoError(t, s.Kill(), "a second kill does nothing")
	require.True(t, portIsFree(s.port))
	require.NoError(t, s.Restart(t.Context()))
	require.JSONEq(t, `{"n":1}`, alice.must(t, http.MethodGet, statePath(room, "a/b"), nil))
	require.ErrorContains(t, s.Restart(t.Context()), "it is running")

	alice.must(t, http.MethodPut, statePath(room, "a/b"), content{"n": 2})
	key, err := os.ReadFile(filepath.Join(dir, keyFile))
	require.NoError(t, err)
	require.NoError(t, s.Stop())
	require.NoError(t, s.Stop(), "a second stop does nothing")

	again := startServer(t, dir)
	require.Equal(t, s.URL(), again.URL())
	require.JSONEq(t, `{"n":2}`, alice.must(t, http.MethodGet, statePath(room, "a/b"), nil))
	sameKey, err := os.ReadFile(filepath.Join(dir, keyFile))
	require.NoError(t, err)
	require.Equal(t, key, sameKey)
	require.Contains(t, again.Log(), "Dendrite version")

	second := register(t, again, "alice")
	require.Equal(t, alice.UserID, second.UserID)
	require.NotEqual(t, alice.DeviceID, second.DeviceID)
	require.JSONEq(t, `{"n":2}`, second.must(t, http.MethodGet, statePath(room, "a/b"), nil))
	_, err = again.Register(t.Context(), "alice", "another password")
	require.ErrorContains(t, err, "M_FORBIDDEN")
	require.NotContains(t, err.Error(), "another password")
}

func TestTwoServersAtOnce(t *testing.T) {
	var servers [2]*Server
	var errs [2]error
	dirs := [2]string{t.TempDir(), t.TempDir()}
	var group sync.WaitGroup
	for i := range servers {
		group.Go(func() { servers[i], errs[i] = Start(t.Context(), Options{Dir: dirs[i]}) })
	}
	group.Wait()
	for i, s := range servers {
		require.NoError(t, errs[i])
		defer func() { require.NoError(t, s.Stop()) }()
	}
	require.NotEqual(t, servers[0].URL(), servers[1].URL())
	alice := register(t, servers[0], "alice")
	alice.base = servers[1].URL()
	status, _, _, err := alice.do(t.Context(), http.MethodGet, "/account/whoami", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, status, "the servers share nothing")

	_, err = Start(t.Context(), Options{Dir: dirs[0]})
	require.ErrorIs(t, err, ErrFolderInUse)
	require.ErrorContains(t, err, "another homeserver is running in this folder")

	// A server whose port was taken meanwhile moves to another.
	require.NoError(t, servers[0].Stop())
	require.NoError(t, writePort(dirs[0], servers[1].port))
	moved, err := Start(t.Context(), Options{Dir: dirs[0]})
	require.NoError(t, err)
	require.NotEqual(t, servers[1].URL(), moved.URL())
	require.NoError(t, moved.Stop())
}

func TestStopReportsServerThatEndedByItself(t *testing.T) {
	s, err := Start(t.Context(), Options{Dir: t.TempDir()})
	require.NoError(t, err)
	ended := s.Ended()
	select {
	case <-ended:
		require.FailNow(t, "it runs")
	default:
	}
	s.proc.kill()
	<-ended
	require.ErrorContains(t, s.Stop(), "had ended by itself")
	require.NoError(t, s.Stop())
	<-s.Ended()
}

func TestStartNeedsDir(t *testing.T) {
	_, err := Start(t.Context(), Options{})
	require.ErrorContains(t, err, "Options.Dir")
}

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

func TestStartCancelledWhileStarting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := t.TempDir()
	_, err := Start(ctx, Options{Dir: dir, Progress: onLine{"starting the homeserver", cancel}})
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, err.Error(), "log", "nothing is wrong with the server")
	lock, free, err := tryLock(filepath.Join(dir, lockFile))
	require.NoError(t, err)
	require.True(t, free, "the process still runs")
	lock.Close()
}

func TestStartCancelledWhileBuilding(t *testing.T) {
	module, err := moduleDir()
	require.NoError(t, err)
	modules, err := goCommand(t.Context(), module, "env", "GOMODCACHE").Output()
	require.NoError(t, err)
	work, cache := t.TempDir(), t.TempDir()
	t.Setenv("GOMODCACHE", strings.TrimSpace(string(modules)))
	t.Setenv("GOCACHE", filepath.Join(cache, "go")) // empty, so that the build takes its time
	t.Setenv("GOTMPDIR", work)
	t.Setenv("HOME", cache)
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("GOFLAGS", "-mod=vendor -race") // meant for others, and would fail here

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := filepath.Join(t.TempDir(), "data")
	_, err = Start(ctx, Options{Dir: dir, Progress: onLine{"s so far", cancel}})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "build the homeserver")
	require.NoDirExists(t, dir)
	require.Eventually(t, func() bool { return len(commandsWith(t, work)) == 0 }, 30*time.Second, 50*time.Millisecond,
		"the go command or a compiler of it still runs")
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

func TestBuildWaitsForTheOneUnderWay(t *testing.T) {
	module, err := moduleDir()
	require.NoError(t, err)
	cache := t.TempDir()
	t.Setenv("HOME", cache)
	t.Setenv("XDG_CACHE_HOME", cache)
	dir, err := cacheDir(t.Context(), module)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	other, ok, err := tryLock(filepath.Join(dir, "lock"))
	require.NoError(t, err)
	require.True(t, ok)

	// The other one finishes its program while we wait.
	program := filepath.Join(dir, "dendrite")
	finish := onLine{"another process is building", func() {
		require.NoError(t, os.WriteFile(program, nil, 0o755))
		require.NoError(t, other.Close())
	}}
	built, err := build(t.Context(), finish)
	require.NoError(t, err)
	require.Equal(t, program, built)

	// The other one never finishes, and the caller gives up.
	require.NoError(t, os.Remove(program))
	other, ok, err = tryLock(filepath.Join(dir, "lock"))
	require.NoError(t, err)
	require.True(t, ok)
	defer other.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err = build(ctx, onLine{"another process is building", cancel})
	require.ErrorIs(t, err, context.Canceled)
}
