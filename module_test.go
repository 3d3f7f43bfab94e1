package matrix_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestBotUsesTheMemory(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t)
	bot := rig.StartBot(t, account.Config(room))
	require.NoError(t, bot.Store.Set("tea", map[string]string{"colour": "green"}))
	require.NoError(t, bot.Stop())
	require.ErrorIs(t, bot.Store.Set("tea", 1), matrix.ErrClosed)
	require.JSONEq(t, `{"tea":{"colour":"green"}}`, account.Standing(t, room)[""])
}

func TestPasswordLogin(t *testing.T) {
	rig.NoLeaks(t)
	bot := rig.Register(t)
	room := bot.NewRoom(t)
	conf := matrix.Config{
		Homeserver:  rig.Shared(t).URL(),
		UserID:      bot.UserID.String(),
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

	memory := rig.Open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.Contains(t, devices(), "tea bot")
	require.NoError(t, memory.Close())
	require.NotContains(t, devices(), "tea bot", "a device of one session is not left behind")

	conf.DeviceID = "TEABOT"
	memory = rig.Open(t, conf)
	require.Equal(t, id.DeviceID("TEABOT"), memory.Client().DeviceID)
	require.NoError(t, memory.Close())
	require.Contains(t, devices(), "tea bot", "a device that the configuration names stays")
}

func TestOpenFails(t *testing.T) {
	bot := rig.Register(t)
	stranger := rig.Register(t)
	room := bot.NewRoom(t)
	password := matrix.Config{Homeserver: rig.Shared(t).URL(), UserID: bot.UserID.String(), Password: bot.Password, DefaultRoom: room.String(), Timeout: 15 * time.Second}
	token := bot.Config(room)
	token.Timeout = 15 * time.Second

	for name, test := range map[string]struct {
		change func(*matrix.Config)
		conf   matrix.Config
		want   []string
		is     error
	}{
		"wrong password": {conf: password, change: func(c *matrix.Config) { c.Password = "hunter2 is wrong" },
			want: []string{"login as " + bot.UserID.String(), "M_FORBIDDEN"}},
		"dead token": {conf: token, change: func(c *matrix.Config) { c.AccessToken = "hunter2isnotatoken" },
			want: []string{"no longer accepts the access token", "M_UNKNOWN_TOKEN"}},
		"token of another": {conf: token, change: func(c *matrix.Config) { c.UserID = "@other:localhost" },
			want: []string{"the access token belongs to " + bot.UserID.String()}},
		"no server": {conf: token, change: func(c *matrix.Config) { c.Homeserver = "http://127.0.0.1:1" },
			want: []string{"connection refused"}},
		"unknown alias": {conf: token, change: func(c *matrix.Config) { c.DefaultRoom = "#nowhere:localhost" },
			want: []string{"#nowhere:localhost", "M_NOT_FOUND"}, is: matrix.ErrUnknownRoom},
		"room of others": {conf: token, change: func(c *matrix.Config) { c.DefaultRoom = stranger.NewRoom(t).String() },
			want: []string{"joining it", "invite the bot"}, is: matrix.ErrForbidden},
		"settings": {conf: token, change: func(c *matrix.Config) { c.EventType = "m.room.name"; c.DefaultRoom = "nowhere" },
			want: []string{"m.room.name", "nowhere"}},
	} {
		t.Run(name, func(t *testing.T) {
			rig.NoLeaks(t)
			conf := test.conf
			test.change(&conf)
			log, kept := rig.KeepLog()
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
	rig.NoLeaks(t)
	bot := rig.Register(t)
	front := rig.Proxy(t)
	front.Inject(homeserver.Fault{Do: homeserver.BlackHole()})
	conf := bot.Config(bot.NewRoom(t))
	conf.Homeserver = front.URL()
	conf.Timeout = time.Second
	memory := matrix.New(conf, matrix.WithLogger(rig.Log(t)))
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
	bot, owner := rig.Register(t), rig.Register(t)
	room := owner.NewRoom(t)
	_, err := owner.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: bot.UserID})
	require.NoError(t, err)
	_, err = owner.SendStateEvent(t.Context(), room, event.StatePowerLevels, "", map[string]any{
		"users": map[string]any{owner.UserID.String(): 100, bot.UserID.String(): 10}, "state_default": 50,
		"events": map[string]any{rig.MemoryType.Type: 10},
	})
	require.NoError(t, err)
	memory := rig.Open(t, bot.Config(room))
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
}

// A bot that may not write is told so at the start, and what to do.
func TestPowerLevelTooLow(t *testing.T) {
	bot, owner := rig.Register(t), rig.Register(t)
	room := owner.NewRoom(t, bot)
	log, kept := rig.KeepLog()
	memory := rig.Open(t, bot.Config(room), matrix.WithLogger(log))
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

// Before room version 10 power levels may be strings, which homeservers hand on, and don't
// all take from their own users.
func TestPowerLevelsAreStrings(t *testing.T) {
	bot, owner := rig.Register(t), rig.Register(t)
	for level, warned := range map[int]bool{10: true, 50: false} {
		room := owner.NewRoom(t, bot)
		_, err := owner.SendStateEvent(t.Context(), room, event.StatePowerLevels, "", map[string]any{
			"users": map[id.UserID]int{owner.UserID: 100, bot.UserID: level}, "state_default": 50,
		})
		require.NoError(t, err)
		front := rig.Proxy(t)
		reads := func(r *http.Request) bool { return r.Method == http.MethodGet }
		front.Inject(homeserver.Fault{Match: reads, Do: homeserver.Edit(levelsAsStrings)})
		log, kept := rig.KeepLog()
		r := rig.Behind(t, front, bot, bot.Config(room), matrix.WithLogger(log))
		require.Equal(t, warned, strings.Contains(kept.String(), "the bot has power level 10, and dev.opsdroid.database state events need 50"))
		require.Equal(t, !warned, r.Set("tea", []byte(`1`)) == nil)
	}
}

// levelsAsStrings makes strings of all power levels in a homeserver's answer.
func levelsAsStrings(answer any) {
	switch answer := answer.(type) {
	case []any:
		for _, element := range answer {
			levelsAsStrings(element)
		}
	case map[string]any:
		if content, ok := answer["content"].(map[string]any); ok && answer["type"] == event.StatePowerLevels.Type {
			for _, levels := range []map[string]any{content, content["users"].(map[string]any)} {
				for name, level := range levels {
					if number, ok := level.(json.Number); ok {
						levels[name] = number.String()
					}
				}
			}
		}
		for _, member := range answer {
			levelsAsStrings(member)
		}
	}
}

// A program that runs its own client hands it over.
func TestWithClient(t *testing.T) {
	rig.NoLeaks(t)
	bot, other := rig.Register(t), rig.Register(t)
	room := bot.NewRoom(t, other)
	bot.Put(t, room, "", map[string]any{"old": 1})

	memory := matrix.New(matrix.Config{DefaultRoom: room.String(), Timeout: 15 * time.Second}, matrix.WithClient(bot.Client), matrix.WithLogger(rig.Log(t)))
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
		bot.Put(t, room, "", map[string]any{"theirs": value})
		eventually(t, func() bool {
			got, ok, err := memory.Get("theirs")
			return err == nil && ok && string(got) == `"`+value+`"`
		}, "change %d of the other writer", i)
	}
	require.NoError(t, memory.Close())
	cancel()
	require.ErrorIs(t, <-stopped, context.Canceled)

	bot.Syncer.(*mautrix.DefaultSyncer).FilterJSON = &mautrix.Filter{Room: &mautrix.RoomFilter{Timeline: &mautrix.FilterPart{Types: []event.Type{event.EventMessage}}}}
	memory = matrix.New(matrix.Config{DefaultRoom: room.String()}, matrix.WithClient(bot.Client), matrix.WithLogger(rig.Log(t)))
	require.ErrorContains(t, memory.Open(t.Context()), "keeps dev.opsdroid.database events from the memory")
}
