package test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// While the homeserver is away, writes fail in time; afterwards all goes on, and
// nothing that was acknowledged is lost.
func TestHomeserverAway(t *testing.T) {
	rig.NoLeaks(t)
	own := rig.Own(t)
	bot := own.Login(t, "bot")
	room := bot.NewRoom(t)
	conf := bot.Config(room)
	conf.Timeout = 6 * time.Second
	r := rig.Proxied{Account: bot, Memory: rig.Open(t, conf), Room: room, Timeout: conf.Timeout} // without a proxy
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
	// On a connection that has not noticed yet, nobody could tell what became of a write.
	r.Memory.Client().Client.CloseIdleConnections()
	rig.Within(t, r.Timeout+slack, "a write while the homeserver is away", func() {
		err := set("away")
		r.Failed(t, err, "set", "away")
		require.ErrorContains(t, err, "connection refused")
		require.NotErrorIs(t, err, matrix.ErrUnknownOutcome, "it never reached the homeserver")
	})
	rig.Has(t, r.Memory, "away", "")
	rig.Has(t, r.Memory, "before", `1`)
	restarted := make(chan error, 1)
	go func() { restarted <- own.Restart(context.Background()) }()
	if err := set("meanwhile"); err != nil { // it depends on how long the start takes
		r.Failed(t, err, "set", "meanwhile")
	}
	require.NoError(t, <-restarted)
	rig.Eventually(time.Minute)(t, func() bool { return set("after") == nil && set("last") == nil }, "writing again")

	theirs := map[string]any{"theirs": 1}
	for key := range want {
		theirs[key] = 1
	}
	bot.Put(t, room, "", theirs)
	want["theirs"] = `1`
	rig.Eventually(time.Minute)(t, func() bool { _, ok, err := r.Get("theirs"); return ok && err == nil }, "sync after the restart")

	require.NoError(t, own.Kill())
	require.NoError(t, own.Restart(t.Context()))
	conf.Timeout = 30 * time.Second
	again := rig.Open(t, conf)
	for key, value := range want {
		got, ok, err := again.Get(key)
		require.NoError(t, err)
		require.True(t, ok, "%q was acknowledged", key)
		require.Equal(t, value, string(got))
	}
}

// A homeserver that does not answer keeps neither a write nor Close longer than
// the timeout.
func TestBlackHole(t *testing.T) {
	rig.NoLeaks(t)
	r := behind(t, rig.Proxy(t), rig.Register(t), 6*time.Second, matrix.OneStateKey)
	r.Front.Inject(homeserver.Fault{Do: homeserver.BlackHole()})
	rig.Within(t, r.Timeout+slack, "a write", func() {
		err := r.Set("tea", []byte(`"secret"`))
		r.Failed(t, err, "set", "tea")
		require.ErrorContains(t, err, "the outcome is unknown")
		require.ErrorIs(t, err, matrix.ErrUnknownOutcome)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	rig.Has(t, r.Memory, "tea", "")
	rig.Within(t, 2*r.Timeout+slack, "Close", func() { require.NoError(t, r.Close()) })
	require.Empty(t, r.Standing(t, r.Room))
}

// A homeserver that gives nothing of a room keeps a bot's start no longer than the timeout.
func TestOpenWhileTheRoomIsEmpty(t *testing.T) {
	rig.NoLeaks(t)
	bot := rig.Register(t)
	conf, front := bot.Config(bot.NewRoom(t)), rig.Proxy(t)
	conf.Homeserver, conf.Timeout = front.URL(), 5*time.Second
	history := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/messages") }
	front.Inject(homeserver.Fault{Match: history, Do: homeserver.Edit(func(answer any) {
		answer.(map[string]any)["chunk"] = []any{}
	})})
	memory := matrix.New(conf, matrix.WithLogger(rig.Silence()))
	defer memory.Close()
	rig.Within(t, conf.Timeout+slack, "Open", func() {
		err := memory.Open(t.Context())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "the homeserver does not give any of its events yet, after 5s")
	})
}
