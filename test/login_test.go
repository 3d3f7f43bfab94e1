package test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A session that the server logs out logs in again, and nothing is lost.
func TestLoggedOutByTheServer(t *testing.T) {
	bot := rig.Register(t)
	room := bot.NewRoom(t)
	memory := rig.Open(t, matrix.Config{
		Homeserver:  rig.Shared(t).URL(),
		UserID:      bot.UserID.String(),
		Password:    bot.Password,
		DefaultRoom: room.String(),
		Timeout:     15 * time.Second,
	})
	require.NoError(t, memory.Set("before", []byte(`1`)))

	for range 2 {
		_, err := bot.LogoutAll(t.Context())
		require.NoError(t, err)
		bot = rig.Shared(t).Login(t, bot.UserID.Localpart())

		require.NoError(t, memory.Set("after", []byte(`"logged in again"`)))
	}
	value, ok, err := memory.Get("before")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, `1`, string(value))
	// What others write is still seen: the sync loop has logged in again as well.
	bot.Put(t, room, "", map[string]any{"theirs": 1})
	eventually(t, func() bool { _, ok, err := memory.Get("theirs"); return ok && err == nil }, "the other writer's key")
}

// A token that dies while the bot runs is a clear error, and what is known can
// still be read.
func TestDeadTokenWhileRunning(t *testing.T) {
	rig.NoLeaks(t)
	log, kept := rig.KeepLog()
	r := behind(t, rig.Proxy(t), rig.Register(t), 15*time.Second, matrix.OneStateKey, matrix.WithLogger(log))
	require.NoError(t, r.Set("tea", []byte(`"green"`)))
	_, err := r.LogoutAll(t.Context())
	require.NoError(t, err)
	r.Front.Reset()
	const says = "the homeserver no longer accepts the access token: make a new one, or use a password"
	rig.Within(t, slack, "the error", func() {
		err := r.Set("tea", []byte(`"secret"`))
		r.Failed(t, err, "set", "tea")
		require.ErrorContains(t, err, says)
		answered(t, err, "M_UNKNOWN_TOKEN")
	})
	require.Equal(t, 1, r.Writes())
	rig.Has(t, r.Memory, "tea", `"green"`)
	eventually(t, func() bool {
		return strings.Contains(kept.String(), "Sync fails") && strings.Contains(kept.String(), says)
	}, "the sync loop says it too")
	require.NotContains(t, kept.String(), r.AccessToken)
}

// A token that is no longer accepted is no matter where there is a password as well.
func TestDeadTokenWithAPassword(t *testing.T) {
	bot := rig.Register(t)
	conf := bot.Config(bot.NewRoom(t))
	conf.UserID, conf.Password = bot.UserID.String(), bot.Password
	log, kept := rig.KeepLog()
	memory := rig.Open(t, conf, matrix.WithLogger(log))
	require.NoError(t, memory.Set("tea", []byte(`1`)))
	require.Equal(t, bot.DeviceID, memory.Client().DeviceID)

	_, err := bot.LogoutAll(t.Context())
	require.NoError(t, err)
	require.NoError(t, memory.Set("tea", []byte(`2`)), "it logs in again while it runs")
	require.Contains(t, kept.String(), "logging in again")
	require.NoError(t, memory.Close())

	memory = rig.Open(t, conf, matrix.WithLogger(log))
	require.Contains(t, kept.String(), "The homeserver no longer accepts the access token; logging in by password")
	rig.Has(t, memory, "tea", `2`)
	require.NotContains(t, kept.String(), bot.AccessToken)
}

// A bot that may not log in any more, as its account was deactivated or the homeserver has no
// such login, does not ask for that with every request, and the log says it once. It is not
// taken for what the homeserver says of a room or of sync.
func TestMayNotLogInAgain(t *testing.T) {
	for name, answer := range map[string]homeserver.Action{
		"deactivated": homeserver.Status(http.StatusForbidden, nil, `{"errcode":"M_USER_DEACTIVATED","error":"This account has been deactivated"}`),
		"no password": homeserver.Status(http.StatusBadRequest, nil, `{"errcode":"M_UNKNOWN","error":"Unknown login type m.login.password"}`),
	} {
		t.Run(name, func(t *testing.T) {
			rig.NoLeaks(t)
			log, kept := rig.KeepLog()
			bot, front := rig.Register(t), rig.Proxy(t)
			conf := bot.Config(bot.NewRoom(t))
			conf.AccessToken, conf.UserID, conf.Password = "", bot.UserID.String(), bot.Password
			r := rig.Behind(t, front, bot, conf, matrix.WithLogger(log))
			require.NoError(t, r.Set("tea", []byte(`"green"`)))
			login := rig.InPath("/login")
			front.Inject(homeserver.Fault{Match: login, Do: answer})
			before, start := front.Count(homeserver.Seen(login)), time.Now()
			_, err := bot.LogoutAll(t.Context())
			require.NoError(t, err)
			for n := 0; n < 10 || time.Since(start) < 3*time.Second; n++ {
				err := r.Set("tea", []byte(`"secret"`))
				r.Failed(t, err, "set", "tea")
				require.ErrorContains(t, err, "logging in again as "+conf.UserID)
				require.NotErrorIs(t, err, matrix.ErrForbidden, "that is not what the room says")
			}
			// One at first, and one after each pause, which is five seconds at least.
			require.LessOrEqual(t, front.Count(homeserver.Seen(login))-before, 1+int(time.Since(start)/(5*time.Second)))
			require.Equal(t, 1, strings.Count(kept.String(), "logging in again\""))
			require.Equal(t, 1, strings.Count(kept.String(), "level=warning msg=\"Sync fails"))
			require.NotContains(t, kept.String(), "sync begins anew")
		})
	}
}

// Without mxid nobody knows who is to log in where the token is dead at the start.
func TestDeadTokenAndNobodysPassword(t *testing.T) {
	bot := rig.Register(t)
	conf := bot.Config(bot.NewRoom(t))
	conf.Password = bot.Password
	memory := rig.Open(t, conf)
	_, err := bot.LogoutAll(t.Context())
	require.NoError(t, err)
	require.NoError(t, memory.Set("tea", []byte(`1`)), "it knows by now who it is")
	require.NoError(t, memory.Close())
	memory = matrix.New(conf, matrix.WithLogger(rig.Log(t)))
	require.ErrorContains(t, memory.Open(t.Context()), "make a new one")
}

// As in the example in opsdroid's documentation, a token may stand beside a device_id that
// is not its own.
func TestTokenOfAnotherDevice(t *testing.T) {
	bot := rig.Register(t)
	conf := bot.Config(bot.NewRoom(t))
	conf.DeviceID = "opsdroid"
	log, kept := rig.KeepLog()
	memory := rig.Open(t, conf, matrix.WithLogger(log))
	require.Equal(t, bot.DeviceID, memory.Client().DeviceID)
	require.Contains(t, kept.String(), "the token's device counts")
	require.NoError(t, memory.Set("tea", []byte(`1`)))
}

// A login whose answer was lost leaves no device behind: each attempt is for the same one.
func TestLostLoginLeavesNoDevice(t *testing.T) {
	bot := rig.Register(t)
	front := rig.Proxy(t)
	login := rig.InPath("/login")
	front.Inject(homeserver.Fault{Match: login, Times: 1, Do: homeserver.ResetAfter()})
	front.Inject(homeserver.Fault{Match: login, Times: 1, Do: homeserver.StatusAfter(http.StatusBadGateway)})
	devices := func() int {
		all, err := bot.GetDevicesInfo(t.Context())
		require.NoError(t, err)
		return len(all.Devices)
	}
	before := devices()
	memory := rig.Open(t, matrix.Config{
		Homeserver: front.URL(), UserID: bot.UserID.String(), Password: bot.Password, DefaultRoom: bot.NewRoom(t).String(), Timeout: 15 * time.Second,
	})
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.Equal(t, before+1, devices())
	require.NoError(t, memory.Close())
	require.Equal(t, before, devices())
}
