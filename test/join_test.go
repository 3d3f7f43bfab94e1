package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
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

// The sync that tells of a join brings the room's earlier events, and may bring an old
// one after a newer, as after a join over federation. The first write in the room takes
// away nothing of what stands there.
func TestFirstWriteAfterJoining(t *testing.T) {
	for name, layout := range rig.Layouts {
		for moment, early := range map[string]bool{"before sync tells": true, "once sync has told": false} {
			t.Run(name+", "+moment, func(t *testing.T) {
				bot, owner := rig.Register(t), rig.Register(t)
				room := owner.NewRoom(t, rig.Writable)
				_, err := owner.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: bot.UserID})
				require.NoError(t, err)
				other := rig.Opsdroid{Account: owner, Room: room, Layout: layout}
				want := make(map[string]string)
				require.NoError(t, other.Put(t.Context(), "k0", `"old"`))
				for i := range 4 {
					key := fmt.Sprint("k", i)
					require.NoError(t, other.Put(t.Context(), key, `1`))
					want[key] = `1`
				}
				r := behind(t, rig.Proxy(t), bot, 15*time.Second, layout)
				loaded := make(chan struct{})
				release := sync.OnceFunc(func() { close(loaded) })
				t.Cleanup(release) // before the proxy ends, which waits for what it has under way
				r.Front.Inject(homeserver.Fault{Match: rig.FollowUp, Do: homeserver.Edit(func(answer any) {
					if oldestLast(answer, room) {
						<-loaded // what it brings of a room that is not used yet is passed over
					}
				})})
				r.InStep(t) // the next sync is edited
				_, err = bot.JoinRoomByID(t.Context(), room)
				require.NoError(t, err)
				joined := r.InRoom(room.String())
				_, err = joined.Keys()
				require.NoError(t, err)
				want["ours"] = `1`
				if early {
					require.NoError(t, joined.Set("ours", 1))
				}
				release()
				r.InStep(t)
				if !early {
					require.NoError(t, joined.Set("ours", 1))
				}
				conf := bot.Config(room)
				conf.SingleStateKey = layout
				there := rig.Proxied{Account: owner, Memory: rig.Open(t, conf), Room: room}
				rig.Settle(t, want, rig.Lasting, there)
				for key, value := range want {
					var held json.RawMessage
					ok, err := joined.Get(key, &held)
					require.NoError(t, err)
					require.True(t, ok, key)
					require.Equal(t, value, string(held), key)
				}
			})
		}
	}
}

// oldestLast edits a sync so that the first of a room's memory events comes last, and
// says whether there are any.
func oldestLast(answer any, room id.RoomID) bool {
	timeline, _ := member(answer, "rooms", "join", room.String(), "timeline").(map[string]any)
	events, _ := timeline["events"].([]any)
	for i, evt := range events {
		if member(evt, "type") == rig.MemoryType.Type {
			timeline["events"] = append(slices.Concat(events[:i], events[i+1:]), evt)
			return true
		}
	}
	return false
}

// member returns a member of a member of a decoded JSON object, or nil.
func member(object any, path ...string) any {
	for _, name := range path {
		members, _ := object.(map[string]any)
		object = members[name]
	}
	return object
}

// The bot is in every room of the settings, as opsdroid is; one that it can't join is a
// warning that says what to do.
func TestJoinsAllRooms(t *testing.T) {
	rig.NoLeaks(t)
	bot, owner := rig.Register(t), rig.Register(t)
	invited, public, closed, banned := owner.NewRoom(t), owner.NewRoom(t), owner.NewRoom(t), owner.NewRoom(t)
	_, err := owner.InviteUser(t.Context(), invited, &mautrix.ReqInviteUser{UserID: bot.UserID})
	require.NoError(t, err)
	_, err = owner.SendStateEvent(t.Context(), public, event.StateJoinRules, "", &event.JoinRulesEventContent{JoinRule: event.JoinRulePublic})
	require.NoError(t, err)
	_, err = owner.BanUser(t.Context(), banned, &mautrix.ReqBanUser{UserID: bot.UserID, Reason: "enough"})
	require.NoError(t, err)
	conf := bot.Config(bot.NewRoom(t))
	conf.Rooms["invited"], conf.Rooms["public"] = invited.String(), owner.NewAlias(t, public).String()
	conf.Rooms["closed"], conf.Rooms["banned"], conf.Rooms["nowhere"] = closed.String(), banned.String(), "#nowhere:"+rig.Shared(t).Name()
	log, kept := rig.KeepLog()
	memory := rig.Open(t, conf, matrix.WithLogger(log))
	eventually(t, func() bool {
		rooms, err := bot.JoinedRooms(t.Context())
		require.NoError(t, err)
		return len(rooms.JoinedRooms) == 3 && strings.Count(kept.String(), "Could not join a room of the settings") == 3
	}, "it joins those that it can, and says which it can't")
	_, err = memory.InRoom("public").Keys()
	require.NoError(t, err)
	for _, line := range strings.Split(kept.String(), "\n") {
		switch {
		case strings.Contains(line, "room=closed"):
			require.Contains(t, line, "invite the bot, or make the room public")
		case strings.Contains(line, "room=banned"):
			require.Contains(t, line, "the bot is banned there, so have that lifted first")
		case strings.Contains(line, "room=nowhere"):
			require.NotContains(t, line, "invite the bot")
		}
	}
}

// A bot that was removed from a room of the settings and is invited again joins without a
// restart, though the homeserver refuses that at first, and the log says both.
func TestRemovedAndInvitedAgain(t *testing.T) {
	rig.NoLeaks(t)
	bot, owner := rig.Register(t), rig.Register(t)
	room := owner.NewRoom(t, bot, rig.Writable)
	log, kept := rig.KeepLog()
	r := rig.Behind(t, rig.Proxy(t), bot, bot.Config(room), matrix.WithLogger(log))
	require.NoError(t, r.Set("tea", []byte(`1`)))
	_, err := owner.KickUser(t.Context(), room, &mautrix.ReqKickUser{UserID: bot.UserID})
	require.NoError(t, err)
	eventually(t, func() bool { return errors.Is(r.Set("tea", []byte(`2`)), matrix.ErrUnknownRoom) }, "it is out")
	eventually(t, func() bool { return strings.Contains(kept.String(), "The bot is no longer in the room") }, "the log says so")
	r.Front.Inject(homeserver.Fault{Match: rig.InPath("/join/"), Times: 1, Do: rig.Forbidden})
	_, err = owner.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: bot.UserID})
	require.NoError(t, err)
	eventually(t, func() bool { return r.Set("tea", []byte(`3`)) == nil }, "it is in again")
	require.Contains(t, kept.String(), "Joined the room")
	rig.Has(t, r.Memory, "tea", `3`)
}

// An invitation that comes while sync has to begin anew is answered all the same, for each
// room of the settings.
func TestInvitedWhileSyncBeginsAnew(t *testing.T) {
	rig.NoLeaks(t)
	bot, owner := rig.Register(t), rig.Register(t)
	rooms := []id.RoomID{owner.NewRoom(t, bot, rig.Writable), owner.NewRoom(t, bot, rig.Writable)}
	conf := bot.Config(bot.NewRoom(t))
	conf.Rooms["one"], conf.Rooms["two"] = rooms[0].String(), rooms[1].String()
	log, kept := rig.KeepLog()
	r := rig.Behind(t, rig.Proxy(t), bot, conf, matrix.WithLogger(log))
	in := func() bool { return r.InRoom("one").Set("tea", 1) == nil && r.InRoom("two").Set("tea", 1) == nil }
	require.True(t, in())
	for _, room := range rooms {
		_, err := owner.KickUser(t.Context(), room, &mautrix.ReqKickUser{UserID: bot.UserID})
		require.NoError(t, err)
	}
	eventually(t, func() bool { return strings.Count(kept.String(), "The bot is no longer in the room") == 2 }, "it is out")
	restore := r.Front.Inject(homeserver.Fault{Match: rig.FollowUp, Do: homeserver.Status(http.StatusBadGateway, nil, "")})
	r.News(t, 1)
	eventually(t, func() bool { return strings.Contains(kept.String(), "Sync fails") }, "no sync brings the invitation")
	for _, room := range rooms {
		_, err := owner.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: bot.UserID})
		require.NoError(t, err)
	}
	r.Front.Inject(homeserver.Fault{Match: rig.FollowUp, Times: 1, Do: homeserver.Status(http.StatusBadRequest, nil, `{"errcode":"M_UNKNOWN_POS","error":"Unknown position"}`)})
	restore()
	eventually(t, in, "it is in again")
	require.Contains(t, kept.String(), "sync begins anew")
	require.Equal(t, 2, strings.Count(kept.String(), "Joined the room"))
}

// The bot may start right after it was invited, and the homeserver refuse the join at first.
func TestStartedRightAfterAnInvitation(t *testing.T) {
	bot, owner, front := rig.Register(t), rig.Register(t), rig.Proxy(t)
	room := owner.NewRoom(t, rig.Writable)
	_, err := owner.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: bot.UserID})
	require.NoError(t, err)
	front.Inject(homeserver.Fault{Match: rig.InPath("/join/"), Times: 2, Do: rig.Forbidden})
	r := rig.Behind(t, front, bot, bot.Config(room))
	require.NoError(t, r.Set("tea", []byte(`1`)))
}

// Where the alias of a room of the settings is moved to another room, the bot joins that once
// it is invited there.
func TestInvitedWhereAnAliasWasMovedTo(t *testing.T) {
	bot, owner := rig.Register(t), rig.Register(t)
	before, after := owner.NewRoom(t, bot), owner.NewRoom(t)
	alias := owner.NewAlias(t, before)
	conf := bot.Config(bot.NewRoom(t))
	conf.Rooms["ops"] = alias.String()
	memory := rig.Open(t, conf)
	_, err := memory.InRoom("ops").Keys()
	require.NoError(t, err)
	_, err = owner.DeleteAlias(t.Context(), alias)
	require.NoError(t, err)
	_, err = owner.CreateAlias(t.Context(), alias, after)
	require.NoError(t, err)
	_, err = owner.InviteUser(t.Context(), after, &mautrix.ReqInviteUser{UserID: bot.UserID})
	require.NoError(t, err)
	eventually(t, func() bool {
		rooms, err := bot.JoinedRooms(t.Context())
		require.NoError(t, err)
		return slices.Contains(rooms.JoinedRooms, after)
	}, "it joins the room that the alias means now")
}
