package test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
)

// An alias that was moved to another room, as after a room upgrade, is followed once
// the bot is no longer in the old one, by new handles and old ones.
func TestAliasIsMoved(t *testing.T) {
	bot := register(t)
	one, two := bot.newRoom(t), bot.newRoom(t)
	memory := open(t, bot.config(bot.newRoom(t)))
	alias := bot.newAlias(t, "moves", one)
	handle := memory.InRoom(alias)
	require.NoError(t, handle.Set("k", 1))
	_, err := bot.DeleteAlias(t.Context(), id.RoomAlias(alias))
	require.NoError(t, err)
	_, err = bot.CreateAlias(t.Context(), id.RoomAlias(alias), two)
	require.NoError(t, err)
	_, err = bot.LeaveRoom(t.Context(), one)
	require.NoError(t, err)
	eventually(t, func() bool { return handle.Set("k", 2) == nil }, "the handle follows")
	require.NoError(t, memory.InRoom(alias).Set("l", 3))
	require.JSONEq(t, `{"k":2,"l":3}`, bot.state(t, two)[""])
}

// The default room is joined by its alias, as the homeserver knows by that which
// servers the room can be joined by.
func TestDefaultRoomIsJoinedByItsAlias(t *testing.T) {
	bot, owner := register(t), register(t)
	front := proxy(t)
	name := "joined" + strings.ToLower(bot.UserID().Localpart())
	created, err := owner.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "public_chat", RoomAliasName: name})
	require.NoError(t, err)
	conf := bot.config(created.RoomID)
	conf.Homeserver, conf.Rooms["main"] = front.URL(), "#"+name+":"+server.Name()
	open(t, conf)
	var joined []string
	for _, request := range front.Requests() {
		if _, target, ok := strings.Cut(request.Path, "/join/"); ok {
			joined = append(joined, target)
		}
	}
	require.Equal(t, []string{"%23" + name + ":" + server.Name()}, joined)
}

// A custom event type is a name space of its own: what opsdroid wrote under its
// older type is neither read nor copied.
func TestOwnEventTypeLeavesTheOlderAlone(t *testing.T) {
	bot := register(t)
	r := behind(t, proxy(t), bot, 15*time.Second, matrix.OneStateKey)
	older := event.Type{Type: "opsdroid.database", Class: event.StateEventType}
	_, err := bot.SendStateEvent(t.Context(), r.room, older, "", map[string]int{"old": 1})
	require.NoError(t, err)
	conf := bot.config(r.room)
	conf.Homeserver, conf.EventType = r.front.URL(), "org.example.memory"
	memory := matrix.New(conf, matrix.WithLogger(quiet(t)))
	require.NoError(t, memory.Open(t.Context()))
	keys, err := memory.Keys()
	require.NoError(t, err)
	require.Empty(t, keys)
	require.Zero(t, r.writes())
	require.NoError(t, memory.Set("k", []byte(`1`)))
	require.NoError(t, memory.Close())
	all, err := bot.State(t.Context(), r.room)
	require.NoError(t, err)
	require.JSONEq(t, `{"k":1}`, string(all[event.Type{Type: "org.example.memory", Class: event.StateEventType}][""].Content.VeryRaw))
	require.NotContains(t, all, memoryType)
}

// A dictionary of the older type is no key of a memory with a state event for each
// key, which leaves it to the layout that it belongs to.
func TestOlderTypeOfAnotherLayout(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	older := event.Type{Type: "opsdroid.database", Class: event.StateEventType}
	for stateKey, content := range map[string]string{"": `{"tea":"green"}`, bot.UserID().String(): `{"n":1}`} {
		_, err := bot.SendStateEvent(t.Context(), room, older, stateKey, rawJSON(content))
		require.NoError(t, err)
	}
	conf := bot.config(room)
	conf.SingleStateKey = matrix.PerKey
	perKey := open(t, conf)
	keys, err := perKey.Keys()
	require.NoError(t, err)
	require.Equal(t, []string{bot.UserID().String()}, keys)
	value, ok, err := perKey.Get(bot.UserID().String())
	require.NoError(t, err)
	require.True(t, ok)
	require.JSONEq(t, `{"n":1}`, string(value))
	require.NoError(t, perKey.Close()) // which waits for the copy
	require.NotContains(t, bot.state(t, room), "")

	single := open(t, bot.config(room))
	value, ok, err = single.Get("tea")
	require.NoError(t, err)
	require.True(t, ok)
	require.JSONEq(t, `"green"`, string(value))
}
