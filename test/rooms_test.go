package test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A room that the bot joins later works, one that it is kicked from says so, and
// after coming back what was stored is there.
func TestJoinedLaterAndKicked(t *testing.T) {
	bot, owner := rig.Register(t), rig.Register(t)
	memory := rig.Open(t, bot.Config(bot.NewRoom(t)))
	room := owner.NewRoom(t)
	handle := memory.InRoom(room.String())

	gone := func(err error) bool {
		return errors.Is(err, matrix.ErrUnknownRoom) || errors.Is(err, matrix.ErrForbidden)
	}
	require.True(t, gone(handle.Set("key", 1)), "not in the room yet")

	levels := map[string]any{"users": map[string]any{owner.UserID.String(): 100, bot.UserID.String(): 50}}
	_, err := owner.SendStateEvent(t.Context(), room, event.StatePowerLevels, "", levels)
	require.NoError(t, err)
	enter := func() {
		_, err := owner.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: bot.UserID})
		require.NoError(t, err)
		_, err = bot.JoinRoomByID(t.Context(), room)
		require.NoError(t, err)
	}
	enter()
	require.NoError(t, handle.Set("key", 1))

	_, err = owner.KickUser(t.Context(), room, &mautrix.ReqKickUser{UserID: bot.UserID})
	require.NoError(t, err)
	eventually(t, func() bool { _, err := handle.Get("key", nil); return gone(err) }, "reading after the kick")
	require.True(t, gone(handle.Set("key", 2)))
	_, err = handle.Keys()
	require.True(t, gone(err))

	owner.Put(t, room, "", map[string]any{"key": 1, "meanwhile": true})
	enter()
	eventually(t, func() bool { return handle.Set("again", 3) == nil }, "writing after the return")
	var value int
	ok, err := handle.Get("key", &value)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 1, value)
	ok, err = handle.Get("meanwhile", nil)
	require.NoError(t, err)
	require.True(t, ok)
	require.JSONEq(t, `{"key":1,"meanwhile":true,"again":3}`, owner.Standing(t, room)[""])
}

// Custom state keys are name spaces of their own.
func TestNameSpaces(t *testing.T) {
	bot := rig.Register(t)
	room := bot.NewRoom(t)
	single, custom := bot.Config(room), bot.Config(room)
	custom.SingleStateKey = "my.key"
	one, two := rig.Open(t, single), rig.Open(t, custom)
	require.NoError(t, one.Set("tea", []byte(`"green"`)))
	require.NoError(t, two.Set("tea", []byte(`"black"`)))
	value, _, err := one.Get("tea")
	require.NoError(t, err)
	require.Equal(t, `"green"`, string(value))

	// The per-key layout passes over both, and does not overwrite them.
	perKey := bot.Config(room)
	perKey.SingleStateKey = matrix.PerKey
	three := rig.Open(t, perKey)
	require.NoError(t, two.Set("sugar", []byte(`"no"`)))
	keys, err := three.Keys()
	require.NoError(t, err)
	require.Empty(t, keys)
	eventually(t, func() bool { return three.Set("my.key", []byte(`1`)) != nil }, "a state event of another memory in the way")
	require.JSONEq(t, `{"tea":"black","sugar":"no"}`, bot.Standing(t, room)["my.key"])
}

// An alias that was moved to another room, as after a room upgrade, is followed once
// the bot is no longer in the old one, by new handles and old ones.
func TestAliasIsMoved(t *testing.T) {
	bot := rig.Register(t)
	one, two := bot.NewRoom(t), bot.NewRoom(t)
	memory := rig.Open(t, bot.Config(bot.NewRoom(t)))
	alias := bot.NewAlias(t, one)
	handle := memory.InRoom(alias.String())
	require.NoError(t, handle.Set("k", 1))
	_, err := bot.DeleteAlias(t.Context(), alias)
	require.NoError(t, err)
	_, err = bot.CreateAlias(t.Context(), alias, two)
	require.NoError(t, err)
	_, err = bot.LeaveRoom(t.Context(), one)
	require.NoError(t, err)
	eventually(t, func() bool { return handle.Set("k", 2) == nil }, "the handle follows")
	require.NoError(t, memory.InRoom(alias.String()).Set("l", 3))
	require.JSONEq(t, `{"k":2,"l":3}`, bot.Standing(t, two)[""])
}

// The default room is joined by its alias, as the homeserver knows by that which
// servers the room can be joined by.
func TestDefaultRoomIsJoinedByItsAlias(t *testing.T) {
	bot, owner := rig.Register(t), rig.Register(t)
	front := rig.Proxy(t)
	name := "joined" + strings.ToLower(bot.UserID.Localpart())
	created, err := owner.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "public_chat", RoomAliasName: name})
	require.NoError(t, err)
	conf := bot.Config(created.RoomID)
	conf.Homeserver, conf.Rooms["main"] = front.URL(), "#"+name+":"+rig.Shared(t).Name()
	rig.Open(t, conf)
	var joined []string
	for _, request := range front.Requests() {
		if _, target, ok := strings.Cut(request.Path, "/join/"); ok {
			joined = append(joined, target)
		}
	}
	require.Equal(t, []string{"%23" + name + ":" + rig.Shared(t).Name()}, joined)
}
