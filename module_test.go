package matrix_test

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// proxy puts a fault proxy in front of the server for one test.
func proxy(t testing.TB) *homeserver.Proxy {
	t.Helper()
	p, err := server.Proxy()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// logged returns a logger that keeps everything, and what it kept.
func logged() (logrus.FieldLogger, *syncBuffer) {
	var kept syncBuffer
	logger := logrus.New()
	logger.SetOutput(&kept)
	logger.SetLevel(logrus.TraceLevel)
	return logger, &kept
}

func TestPasswordLogin(t *testing.T) {
	noLeaks(t)
	bot := register(t)
	room := bot.newRoom(t)
	conf := matrix.Config{
		Homeserver:  server.URL(),
		UserID:      bot.Account.UserID,
		Password:    bot.Password,
		DeviceName:  "tea bot",
		DefaultRoom: room.String(),
		Timeout:     15 * time.Second,
	}
	devices := func() (names []string) {
		var all struct {
			Devices []struct {
				Name string `json:"display_name"`
			} `json:"devices"`
		}
		_, err := bot.MakeRequest(t.Context(), http.MethodGet, bot.BuildClientURL("v3", "devices"), nil, &all)
		require.NoError(t, err)
		for _, device := range all.Devices {
			names = append(names, device.Name)
		}
		return names
	}

	memory := matrix.New(conf, matrix.WithLogger(quiet(t)))
	require.NoError(t, memory.Open(t.Context()))
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.Contains(t, devices(), "tea bot")
	require.NoError(t, memory.Close())
	require.NotContains(t, devices(), "tea bot", "a device of one session is not left behind")

	conf.DeviceID = "TEABOT"
	memory = matrix.New(conf, matrix.WithLogger(quiet(t)))
	require.NoError(t, memory.Open(t.Context()))
	require.Equal(t, id.DeviceID("TEABOT"), memory.Client().DeviceID)
	require.NoError(t, memory.Close())
	require.Contains(t, devices(), "tea bot", "a device that the configuration names stays")
}

func TestOpenFails(t *testing.T) {
	bot := register(t)
	stranger := register(t)
	room := bot.newRoom(t)
	password := matrix.Config{Homeserver: server.URL(), UserID: bot.Account.UserID, Password: bot.Password, DefaultRoom: room.String(), Timeout: 3 * time.Second}
	token := bot.config(room)
	token.Timeout = 3 * time.Second

	for name, test := range map[string]struct {
		change func(*matrix.Config)
		conf   matrix.Config
		want   []string
		is     error
	}{
		"wrong password": {conf: password, change: func(c *matrix.Config) { c.Password = "hunter2 is wrong" },
			want: []string{"login as " + bot.Account.UserID, "M_FORBIDDEN"}},
		"dead token": {conf: token, change: func(c *matrix.Config) { c.AccessToken = "hunter2isnotatoken" },
			want: []string{"no longer accepts the access token", "M_UNKNOWN_TOKEN"}},
		"token of another": {conf: token, change: func(c *matrix.Config) { c.UserID = "@other:localhost" },
			want: []string{"the access token belongs to " + bot.Account.UserID}},
		"no server": {conf: token, change: func(c *matrix.Config) { c.Homeserver = "http://127.0.0.1:1" },
			want: []string{"connection refused"}},
		"unknown alias": {conf: token, change: func(c *matrix.Config) { c.DefaultRoom = "#nowhere:localhost" },
			want: []string{"#nowhere:localhost", "M_NOT_FOUND"}, is: matrix.ErrUnknownRoom},
		"room of others": {conf: token, change: func(c *matrix.Config) { c.DefaultRoom = stranger.newRoom(t).String() },
			want: []string{"joining it", "invite the bot"}, is: matrix.ErrForbidden},
		"settings": {conf: token, change: func(c *matrix.Config) { c.EventType = "m.room.name"; c.DefaultRoom = "nowhere" },
			want: []string{"m.room.name", "nowhere"}},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			conf := test.conf
			test.change(&conf)
			log, kept := logged()
			memory := matrix.New(conf, matrix.WithLogger(log))
			err := memory.Open(t.Context())
			require.Error(t, err)
			var failure *matrix.Error
			require.ErrorAs(t, err, &failure)
			for _, part := range test.want {
				require.ErrorContains(t, err, part)
			}
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
			require.NotContains(t, err.Error(), "hunter2")
			require.NotContains(t, kept.String(), "hunter2")
			require.NoError(t, memory.Close(), "Close after a failed Open")
			_, _, err = memory.Get("tea")
			require.Error(t, err)
		})
	}
}

// A homeserver that accepts connections and never answers does not keep the bot.
func TestOpenIsBounded(t *testing.T) {
	noLeaks(t)
	bot := register(t)
	front := proxy(t)
	front.Inject(homeserver.Fault{Do: homeserver.BlackHole()})
	conf := bot.config(bot.newRoom(t))
	conf.Homeserver = front.URL()
	conf.Timeout = time.Second
	memory := matrix.New(conf, matrix.WithLogger(quiet(t)))
	ended := make(chan error, 1)
	go func() { ended <- memory.Open(context.Background()) }()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, context.DeadlineExceeded)
	case <-time.After(30 * time.Second):
		t.Fatal("Open still waits after 30 seconds, with a timeout of one")
	}
}

func TestJoinsTheDefaultRoom(t *testing.T) {
	bot, owner := register(t), register(t)
	room := owner.newRoom(t)
	_, err := owner.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: bot.UserID()})
	require.NoError(t, err)
	_, err = owner.SendStateEvent(t.Context(), room, event.StatePowerLevels, "", map[string]any{
		"users": map[string]any{owner.UserID().String(): 100, bot.UserID().String(): 10}, "state_default": 50,
		"events": map[string]any{memoryType.Type: 10},
	})
	require.NoError(t, err)
	memory := open(t, bot.config(room))
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
}

// A bot that may not write is told so at the start, and what to do.
func TestPowerLevelTooLow(t *testing.T) {
	bot, owner := register(t), register(t)
	room := owner.newRoom(t, bot)
	log, kept := logged()
	memory := open(t, bot.config(room), matrix.WithLogger(log))
	const lack = "the bot has power level 0, and dev.opsdroid.database state events need 50"
	require.Contains(t, kept.String(), lack)

	err := memory.Set("tea", []byte(`"green"`))
	require.ErrorIs(t, err, matrix.ErrForbidden)
	require.ErrorContains(t, err, lack)
	var answer mautrix.RespError
	require.ErrorAs(t, err, &answer)
	require.Equal(t, "M_FORBIDDEN", answer.ErrCode)
	_, ok, err := memory.Get("tea")
	require.NoError(t, err)
	require.False(t, ok, "a refused value is not remembered")
}

// A program that runs its own client hands it over.
func TestWithClient(t *testing.T) {
	noLeaks(t)
	bot, other := register(t), register(t)
	room := bot.newRoom(t, other)
	_, err := bot.SendStateEvent(t.Context(), room, memoryType, "", map[string]any{"old": 1})
	require.NoError(t, err)

	memory := matrix.New(matrix.Config{DefaultRoom: room.String(), Timeout: 15 * time.Second}, matrix.WithClient(bot.Client), matrix.WithLogger(quiet(t)))
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, memory.Open(ctx))
	stopped := make(chan error, 1)
	go func() { stopped <- bot.SyncWithContext(ctx) }()

	require.Same(t, bot.Client, memory.Client())
	_, ok, err := memory.Get("old")
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, memory.Set("new", []byte(`2`)))

	for i, value := range []string{"one", "two"} {
		_, err = bot.SendStateEvent(t.Context(), room, memoryType, "", map[string]any{"theirs": value})
		require.NoError(t, err)
		eventually(t, func() bool {
			got, ok, err := memory.Get("theirs")
			return err == nil && ok && string(got) == `"`+value+`"`
		}, "change %d of the other writer", i)
	}
	require.NoError(t, memory.Close())
	cancel()
	require.ErrorIs(t, <-stopped, context.Canceled)

	bot.Syncer.(*mautrix.DefaultSyncer).FilterJSON = &mautrix.Filter{Room: &mautrix.RoomFilter{Timeline: &mautrix.FilterPart{Types: []event.Type{event.EventMessage}}}}
	memory = matrix.New(matrix.Config{DefaultRoom: room.String()}, matrix.WithClient(bot.Client), matrix.WithLogger(quiet(t)))
	require.ErrorContains(t, memory.Open(t.Context()), "keeps dev.opsdroid.database events from the memory")
}

// A syncBuffer is a buffer that may be written and read at the same time.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
