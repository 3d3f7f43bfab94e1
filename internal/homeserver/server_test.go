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
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-joe/matrix-memory/internal/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "correct horse battery"

// software is the homeserver that the tests run on.
func software(t *testing.T) Software {
	t.Helper()
	s, err := FromEnvironment()
	require.NoError(t, err)
	return s
}

// traits are what the tests have to know of each software.
var traits = map[Software]struct {
	key, database string            // files of the server's folder
	temporary     string            // what files look like that are there only while it is made
	banner        string            // in the log, once for each start
	making        string            // what an error says that could not be done
	tool, source  string            // what it says that is needed for that
	offline       map[string]string // an environment in which nothing can be fetched
}{
	Dendrite: {dendriteKey, databases[0], "go-build*", "Dendrite version", "build the homeserver", "the go command", "GOPROXY",
		map[string]string{"GOPROXY": "off"}},
	Synapse: {synapseKey, synapseDatabase, "tmp*", "STARTING SERVER", "install the homeserver", "Python 3.11 to 3.12", "PyPI",
		map[string]string{"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}},
}

// startServer starts a server that is stopped when the test ends.
func startServer(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Start(t.Context(), Options{Dir: dir, Software: software(t), Progress: t.Output()})
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
	require.Equal(t, software(t), s.Software())
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
	key, err := os.ReadFile(filepath.Join(dir, traits[s.Software()].key))
	require.NoError(t, err)
	require.NoError(t, s.Stop())
	require.NoError(t, s.Stop(), "a second stop does nothing")

	again := startServer(t, dir)
	require.Equal(t, s.URL(), again.URL())
	require.JSONEq(t, `{"n":2}`, alice.must(t, http.MethodGet, statePath(room, "a/b"), nil))
	sameKey, err := os.ReadFile(filepath.Join(dir, traits[s.Software()].key))
	require.NoError(t, err)
	require.Equal(t, key, sameKey)
	require.Contains(t, again.Log(), traits[s.Software()].banner)

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
	software := software(t)
	dirs := [2]string{t.TempDir(), t.TempDir()}
	var group sync.WaitGroup
	for i := range servers {
		group.Go(func() { servers[i], errs[i] = Start(t.Context(), Options{Dir: dirs[i], Software: software}) })
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

	_, err = Start(t.Context(), Options{Dir: dirs[0], Software: software})
	require.ErrorIs(t, err, ErrFolderInUse)
	require.ErrorContains(t, err, "another homeserver is running in this folder")

	// A server whose port was taken meanwhile moves to another.
	require.NoError(t, servers[0].Stop())
	require.NoError(t, writePort(dirs[0], servers[1].port))
	moved, err := Start(t.Context(), Options{Dir: dirs[0], Software: software})
	require.NoError(t, err)
	require.NotEqual(t, servers[1].URL(), moved.URL())
	require.NoError(t, moved.Stop())
}

func TestStopReportsServerThatEndedByItself(t *testing.T) {
	s, err := Start(t.Context(), Options{Dir: t.TempDir(), Software: software(t)})
	require.NoError(t, err)
	ended := s.Ended()
	select {
	case <-ended:
		require.FailNow(t, "it runs")
	default:
	}
	s.proc.Kill()
	<-ended
	require.ErrorContains(t, s.Stop(), "had ended by itself")
	require.NoError(t, s.Stop())
	<-s.Ended()
}

// A server that took the port is not mistaken for the one that was started.
func TestAnswersOnlyAsItself(t *testing.T) {
	s := startServer(t, t.TempDir())
	require.False(t, s.answersAs(t.Context(), "another.invalid"))
}

func TestFolderOfAnotherSoftwareIsRefused(t *testing.T) {
	for other := range programs {
		if other == software(t) {
			continue
		}
		dir := t.TempDir()
		require.NoError(t, (&Server{opts: Options{Dir: dir}, program: programs[other]}).configure("cut-off.invalid"))
		_, err := Start(t.Context(), Options{Dir: dir, Software: software(t)})
		require.ErrorContains(t, err, "was made by "+other.String())
		require.NoFileExists(t, filepath.Join(dir, programs[software(t)].configFile()))
	}
}

func TestDefaultRateLimits(t *testing.T) {
	s, err := Start(t.Context(), Options{Dir: t.TempDir(), Software: software(t), DefaultRateLimits: true})
	if software(t) == Dendrite {
		require.ErrorContains(t, err, "dendrite here has no limits")
		return
	}
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Stop()) }()
	var users []user
	for _, name := range []string{"alice", "bob", "carol", "dave", "erin", "frank"} {
		users = append(users, register(t, s, name)) // more than Synapse lets one address have at once
	}
	room := users[0].createRoom(t)
	status, text := http.StatusOK, ""
	for n := 0; n < 20 && status == http.StatusOK; n++ {
		status, _, text, err = users[0].do(t.Context(), http.MethodPut, statePath(room, "key"), content{"n": n})
		require.NoError(t, err)
	}
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Contains(t, text, "M_LIMIT_EXCEEDED")
}

func TestFromEnvironment(t *testing.T) {
	for value, want := range map[string]Software{"": Dendrite, "dendrite": Dendrite, "synapse": Synapse} {
		t.Setenv(variable, value)
		require.Equal(t, want, software(t))
	}
	t.Setenv(variable, "conduit")
	_, err := FromEnvironment()
	require.EqualError(t, err, `MATRIX_MEMORY_HOMESERVER is "conduit"; set it to "dendrite" or "synapse"`)
}

func TestStartNeedsDir(t *testing.T) {
	_, err := Start(t.Context(), Options{})
	require.ErrorContains(t, err, "Options.Dir")
}

func TestStartNeedsAKnownSoftware(t *testing.T) {
	_, err := Start(t.Context(), Options{Dir: t.TempDir(), Software: 7})
	require.ErrorContains(t, err, "Software(7)")
}

func TestStartCancelledWhileStarting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := t.TempDir()
	_, err := Start(ctx, Options{Dir: dir, Software: software(t), Progress: onLine{"starting the homeserver", cancel}})
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, err.Error(), "log", "nothing is wrong with the server")
	lock, free, err := process.TryLock(filepath.Join(dir, lockFile))
	require.NoError(t, err)
	require.True(t, free, "the process still runs")
	lock.Close()
}
