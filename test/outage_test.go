package test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// While the homeserver is away, writes fail in time; afterwards all goes on, and
// nothing that was acknowledged is lost.
func TestHomeserverAway(t *testing.T) {
	noLeaks(t)
	own, err := homeserver.Start(t.Context(), homeserver.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, own.Stop()) })
	bot := registerAt(t, own)
	room := bot.newRoom(t)
	conf := bot.config(room)
	conf.Homeserver, conf.Timeout = own.URL(), 6*time.Second
	r := rig{account: bot, Memory: open(t, conf), room: room, timeout: conf.Timeout}
	want := map[string]string{}
	set := func(key string) error {
		err := r.Set(key, []byte(`1`))
		if err == nil {
			want[key] = `1`
		}
		return err
	}
	require.NoError(t, set("before"))

	require.NoError(t, own.Kill())
	within(t, r.timeout+slack, "a write while the homeserver is away", func() {
		err := set("away")
		r.failed(t, err, "set", "away")
		require.ErrorContains(t, err, "connection refused")
		require.NotErrorIs(t, err, commit.ErrUnknownOutcome, "it never reached the homeserver")
	})
	r.has(t, "away", "")
	r.has(t, "before", `1`)
	restarted := make(chan error, 1)
	go func() { restarted <- own.Restart(context.Background()) }()
	if err := set("meanwhile"); err != nil { // it depends on how long the start takes
		r.failed(t, err, "set", "meanwhile")
	}
	require.NoError(t, <-restarted)
	eventually(t, func() bool { return set("after") == nil && set("last") == nil }, "writing again")

	theirs := map[string]any{"theirs": 1}
	for key := range want {
		theirs[key] = 1
	}
	_, err = bot.SendStateEvent(t.Context(), room, memoryType, "", theirs)
	require.NoError(t, err)
	want["theirs"] = `1`
	require.Eventually(t, func() bool { _, ok, err := r.Get("theirs"); return ok && err == nil }, time.Minute, 10*time.Millisecond, "sync after the restart")

	require.NoError(t, own.Kill())
	require.NoError(t, own.Restart(t.Context()))
	again := open(t, conf)
	for key, value := range want {
		got, ok, err := again.Get(key)
		require.NoError(t, err)
		require.True(t, ok, "%q was acknowledged", key)
		require.Equal(t, value, string(got))
	}
}

// registerAt is register for a server of a test's own.
func registerAt(t testing.TB, own *homeserver.Server) account {
	t.Helper()
	made, err := own.Register(t.Context(), "bot", "a password")
	require.NoError(t, err)
	client, err := mautrix.NewClient(own.URL(), id.UserID(made.UserID), made.AccessToken)
	require.NoError(t, err)
	t.Cleanup(client.Client.CloseIdleConnections)
	return account{made, client}
}

// A homeserver that does not answer keeps neither a write nor Close longer than
// the timeout.
func TestBlackHole(t *testing.T) {
	noLeaks(t)
	r := behind(t, proxy(t), register(t), 6*time.Second, matrix.OneStateKey)
	r.front.Inject(homeserver.Fault{Do: homeserver.BlackHole()})
	within(t, r.timeout+slack, "a write", func() {
		err := r.Set("tea", []byte(`"secret"`))
		r.failed(t, err, "set", "tea")
		require.ErrorContains(t, err, "the outcome is unknown")
		require.ErrorIs(t, err, commit.ErrUnknownOutcome)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	r.has(t, "tea", "")
	within(t, 2*r.timeout+slack, "Close", func() { require.NoError(t, r.Close()) })
	require.Empty(t, r.state(t, r.room))
}

// A token that dies while the bot runs is a clear error, and what is known can
// still be read.
func TestDeadTokenWhileRunning(t *testing.T) {
	noLeaks(t)
	log, kept := logged()
	r := behind(t, proxy(t), register(t), 15*time.Second, matrix.OneStateKey, matrix.WithLogger(log))
	require.NoError(t, r.Set("tea", []byte(`"green"`)))
	_, err := r.LogoutAll(t.Context())
	require.NoError(t, err)
	r.front.Reset()
	const says = "the homeserver no longer accepts the access token: make a new one, or use a password"
	within(t, slack, "the error", func() {
		err := r.Set("tea", []byte(`"secret"`))
		r.failed(t, err, "set", "tea")
		require.ErrorContains(t, err, says)
		answered(t, err, "M_UNKNOWN_TOKEN")
	})
	require.Equal(t, 1, r.writes())
	r.has(t, "tea", `"green"`)
	eventually(t, func() bool {
		return strings.Contains(kept.String(), "Sync fails") && strings.Contains(kept.String(), says)
	}, "the sync loop says it too")
	require.NotContains(t, kept.String(), r.Account.AccessToken)
}
