package adapter_test

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/adapter"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// joins matches requests to join a room.
func joins(r *http.Request) bool { return strings.Contains(r.URL.Path, "/join/") }

func TestInvitations(t *testing.T) {
	alice, bob := register(t), register(t)
	for name, test := range map[string]struct {
		options []adapter.Option
		byAlice bool
		byBob   bool
		logsFix string
	}{
		"default":         {byAlice: true, byBob: true},
		"anyone":          {options: []adapter.Option{adapter.WithInvitesFromAnyone()}, byAlice: true, byBob: true},
		"nobody":          {options: []adapter.Option{adapter.WithInvitesFrom()}, logsFix: `WithInvitesFrom(`},
		"a user":          {options: []adapter.Option{adapter.WithInvitesFrom(bob.UserID.String())}, byBob: true, logsFix: alice.UserID.String()},
		"a server":        {options: []adapter.Option{adapter.WithInvitesFrom(rig.Shared(t).Name())}, byAlice: true, byBob: true},
		"another server":  {options: []adapter.Option{adapter.WithInvitesFrom("elsewhere.example")}, logsFix: rig.Shared(t).Name()},
		"users, a server": {options: []adapter.Option{adapter.WithInvitesFrom("elsewhere.example", alice.UserID.String())}, byAlice: true, logsFix: bob.UserID.String()},
	} {
		t.Run(name, func(t *testing.T) {
			robot := register(t)
			invite := func(by person) string {
				room := by.NewRoom(t)
				by.say(t, room, "before the bot was here")
				_, err := by.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: robot.UserID})
				require.NoError(t, err)
				return room.String()
			}
			want := map[string]bool{invite(alice): test.byAlice} // pending at the start
			var got record[adapter.InvitationEvent]
			var heard record[joe.ReceiveMessageEvent]
			b := start(t, setup{user: robot, options: test.options, handlers: func(b *bot) {
				b.Brain.RegisterHandler(got.add)
				b.Brain.RegisterHandler(heard.add)
			}})
			want[invite(bob)] = test.byBob

			joined := make(map[string]bool)
			for _, invitation := range got.wait(t, 2) {
				joined[invitation.Channel] = invitation.Joined
			}
			require.Equal(t, want, joined)
			response, err := robot.JoinedRooms(t.Context())
			require.NoError(t, err)
			count := 1 // its own
			for _, in := range want {
				if in {
					count++
				}
			}
			require.Len(t, response.JoinedRooms, count)
			if test.logsFix != "" {
				require.Contains(t, b.log.String(), test.logsFix)
			}
			require.NotContains(t, b.log.String(), "could not join")
			b.stop()
			require.Empty(t, heard.list(), "the bot heard what was said before it joined")
		})
	}
}

// A room is of use, and its memory is there, right after the bot was invited.
func TestInvitedRoomHasAMemory(t *testing.T) {
	robot, alice := register(t), register(t)
	room := alice.newRoom(t)
	alice.say(t, room, "remember tea is too early")
	b := start(t, setup{user: robot, handlers: func(b *bot) {
		b.Brain.RegisterHandler(func(evt adapter.InvitationEvent) error {
			return b.Adapter.Send("Hello! I have joined.", evt.Channel)
		})
		b.Respond("remember (.+) is (.+)", b.memory.InEventRoom(func(msg joe.Message) error {
			if err := b.Store.Set(msg.Matches[0], msg.Matches[1]); err != nil {
				return err
			}
			return msg.RespondE("OK")
		}))
	}})

	_, err := alice.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: robot.UserID})
	require.NoError(t, err)
	alice.answers(t, room, robot.UserID, 1)
	alice.say(t, room, "remember tea is green")
	require.Equal(t, []string{"Hello! I have joined.", "OK"}, bodies(alice.answers(t, room, robot.UserID, 2)))
	var tea string
	ok, err := b.memory.InRoom(room.String()).Get("tea", &tea)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "green", tea)
}

// The bot may be invited again after it was removed, and hears nothing of what
// was said meanwhile.
func TestInvitedAgain(t *testing.T) {
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	var heard record[joe.ReceiveMessageEvent]
	var leaves record[adapter.LeaveEvent]
	var invitations record[adapter.InvitationEvent]
	start(t, setup{user: robot, handlers: func(b *bot) {
		b.Brain.RegisterHandler(heard.add)
		b.Brain.RegisterHandler(leaves.add)
		b.Brain.RegisterHandler(invitations.add)
	}})
	alice.say(t, room, "one")
	heard.wait(t, 1)
	_, err := alice.KickUser(t.Context(), room, &mautrix.ReqKickUser{UserID: robot.UserID})
	require.NoError(t, err)
	leaves.wait(t, 1)
	alice.say(t, room, "two")
	_, err = alice.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: robot.UserID})
	require.NoError(t, err)
	invitations.wait(t, 1)
	alice.say(t, room, "three")
	events := heard.wait(t, 2)
	require.Equal(t, []string{"one", "three"}, []string{events[0].Text, events[1].Text})
}

// An invitation may come down sync before the homeserver lets the bot join.
func TestInvitedAndRefusedAtFirst(t *testing.T) {
	alice, proxy := register(t), rig.Proxy(t)
	var got record[adapter.InvitationEvent]
	b := start(t, setup{homeserver: proxy.URL(), handlers: func(b *bot) { b.Brain.RegisterHandler(got.add) }})
	proxy.Inject(homeserver.Fault{Match: joins, Times: 2, Do: rig.Forbidden})
	_, err := alice.InviteUser(t.Context(), alice.NewRoom(t), &mautrix.ReqInviteUser{UserID: b.user.UserID})
	require.NoError(t, err)
	require.True(t, got.wait(t, 1)[0].Joined)
}

// The bot is in every room of the settings, whoever invites it there.
func TestInvitedToARoomOfTheSettings(t *testing.T) {
	alice, proxy := register(t), rig.Proxy(t)
	room := alice.NewRoom(t)
	var got record[adapter.InvitationEvent]
	b := start(t, setup{
		homeserver: proxy.URL(),
		options:    []adapter.Option{adapter.WithInvitesFrom()},
		config:     func(conf *matrix.Config) { conf.Rooms["ops"] = room.String() },
		handlers:   func(b *bot) { b.Brain.RegisterHandler(got.add) },
	})
	eventually(t, func() bool { return strings.Contains(b.log.String(), "Could not join a room of the settings") }, "it can't join at first")
	proxy.Inject(homeserver.Fault{Match: joins, Do: homeserver.Delay(time.Second)})
	_, err := alice.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: b.user.UserID})
	require.NoError(t, err)
	require.True(t, got.wait(t, 1)[0].Joined)
	require.NotContains(t, b.log.String(), "WithInvitesFrom")
}

// An invitation that the end cuts short stands, and nobody is told to invite the bot again.
func TestInvitationWhileClosing(t *testing.T) {
	alice, proxy := register(t), rig.Proxy(t)
	b := start(t, setup{homeserver: proxy.URL()})
	proxy.Inject(homeserver.Fault{Match: joins, Do: homeserver.BlackHole()})
	_, err := alice.InviteUser(t.Context(), alice.NewRoom(t), &mautrix.ReqInviteUser{UserID: b.user.UserID})
	require.NoError(t, err)
	eventually(t, func() bool { return proxy.Count(homeserver.Seen(joins)) > 0 }, "the bot does not join")
	b.stop()
	require.NotContains(t, b.log.String(), "could not join")
}

// rejections matches requests to reject an invitation.
func rejections(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/leave") }

// Invitations that the bot does not follow are rejected one after another, with one
// question for all and one warning for each inviter. They are gone at the next start.
func TestRejectedInvitations(t *testing.T) {
	const many = 12
	robot, mallory := register(t), register(t)
	home := robot.newRoom(t)
	for range many {
		_, err := mallory.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "private_chat", Invite: []id.UserID{robot.UserID}})
		require.NoError(t, err)
	}
	proxy := rig.Proxy(t)
	proxy.Inject(homeserver.Fault{Match: rejections, Times: 1, Do: homeserver.RateLimitBody(10)})
	proxy.Inject(homeserver.Fault{Match: rejections, Times: 1, Do: homeserver.ResetAfter()})
	var got record[adapter.InvitationEvent]
	s := setup{user: robot, home: home, homeserver: proxy.URL(), options: []adapter.Option{adapter.WithInvitesFrom()},
		handlers: func(b *bot) { b.Brain.RegisterHandler(got.add) }}
	b := start(t, s)
	rooms := make(map[string]bool)
	for _, evt := range got.wait(t, many) {
		require.False(t, evt.Joined)
		require.Equal(t, mallory.UserID.String(), evt.AuthorID)
		rooms[evt.Channel] = true
	}
	b.stop()
	require.Len(t, rooms, many)
	require.Len(t, got.list(), many)
	require.Equal(t, many+2, proxy.Count(homeserver.Seen(rejections)))
	require.LessOrEqual(t, proxy.Count(func(r homeserver.Request) bool { return strings.HasSuffix(r.Path, "/joined_rooms") }), 2, "the adapter's and the memory's own")
	require.Equal(t, 1, strings.Count(b.log.String(), "level=warning"), b.log)
	response, err := robot.FullSyncRequest(t.Context(), mautrix.ReqSync{})
	require.NoError(t, err)
	require.Empty(t, response.Rooms.Invite)
}

// An invitation that another device of the bot's account has accepted is not rejected,
// whoever sent it: that would be to leave the room.
func TestInvitationAcceptedElsewhere(t *testing.T) {
	robot, alice, proxy := register(t), register(t), rig.Proxy(t)
	room := alice.NewRoom(t)
	var got record[adapter.InvitationEvent]
	var heard record[joe.ReceiveMessageEvent]
	start(t, setup{user: robot, homeserver: proxy.URL(), options: []adapter.Option{adapter.WithInvitesFrom()}, handlers: func(b *bot) {
		b.Brain.RegisterHandler(got.add)
		b.Brain.RegisterHandler(heard.add)
	}})
	reached, release := make(chan struct{}), make(chan struct{})
	proxy.Inject(homeserver.Fault{
		Match: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/joined_rooms") },
		Times: 1, Do: homeserver.PauseAfter(reached, release),
	})
	_, err := alice.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: robot.UserID})
	require.NoError(t, err)
	<-reached // the homeserver has said that the bot is not in the room
	_, err = robot.JoinRoomByID(t.Context(), room)
	require.NoError(t, err)
	alice.say(t, room, "hello")
	heard.wait(t, 1)
	close(release)
	require.True(t, got.wait(t, 1)[0].Joined)
	require.Zero(t, proxy.Count(homeserver.Seen(rejections)))
}

// An invitation that was withdrawn does not keep the bot from the next.
func TestInvitationWithdrawn(t *testing.T) {
	alice, proxy := register(t), rig.Proxy(t)
	var got record[adapter.InvitationEvent]
	b := start(t, setup{homeserver: proxy.URL(), handlers: func(b *bot) { b.Brain.RegisterHandler(got.add) }})
	proxy.Inject(homeserver.Fault{Match: joins, Times: 1, Do: rig.Forbidden})
	first, second := alice.NewRoom(t), alice.NewRoom(t)
	_, err := alice.InviteUser(t.Context(), first, &mautrix.ReqInviteUser{UserID: b.user.UserID})
	require.NoError(t, err)
	eventually(t, func() bool { return proxy.Count(homeserver.Seen(joins)) > 0 }, "the bot does not join")
	_, err = alice.KickUser(t.Context(), first, &mautrix.ReqKickUser{UserID: b.user.UserID})
	require.NoError(t, err)
	_, err = alice.InviteUser(t.Context(), second, &mautrix.ReqInviteUser{UserID: b.user.UserID})
	require.NoError(t, err)
	rig.Within(t, 10*time.Second, "both", func() { got.wait(t, 2) }) // and not the 20 s of the timeout
	for _, evt := range got.list() {
		require.Equal(t, evt.Channel == second.String(), evt.Joined)
	}
	require.NotContains(t, b.log.String(), "could not join")
}

// However many invite the bot, it answers others meanwhile, makes one request at a time
// for that, and stops at once.
func TestFloodOfInvitations(t *testing.T) {
	noLeaks(t)
	const many = 10_000
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	proxy := rig.Proxy(t)
	var got record[adapter.InvitationEvent]
	b := start(t, setup{user: robot, homeserver: proxy.URL(), options: []adapter.Option{adapter.WithInvitesFrom(alice.UserID.String())}, handlers: func(b *bot) {
		b.Brain.RegisterHandler(got.add)
		b.Respond("ping", func(msg joe.Message) error { return msg.RespondE("pong") })
	}})
	t.Cleanup(b.stop)
	var now, most atomic.Int32
	proxy.Inject(homeserver.Fault{Match: rejections, Do: func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		server.ServeHTTP(w, r)
	}})
	proxy.Inject(homeserver.Fault{Match: rig.FollowUp, Times: 1, Do: homeserver.Edit(func(answer any) {
		invite := make(map[string]any)
		for i := range many {
			invite[fmt.Sprintf("!flood-%d:elsewhere.example", i)] = map[string]any{"invite_state": map[string]any{"events": []any{map[string]any{
				"type": "m.room.member", "state_key": robot.UserID, "sender": fmt.Sprintf("@mallory-%d:elsewhere.example", i),
				"content": map[string]any{"membership": "invite"},
			}}}}
		}
		rooms, _ := answer.(map[string]any)["rooms"].(map[string]any)
		if rooms == nil {
			rooms = make(map[string]any)
			answer.(map[string]any)["rooms"] = rooms
		}
		rooms["invite"] = invite
	})})
	before, held := runtime.NumGoroutine(), heap()
	alice.say(t, room, "ends the sync that is under way")
	alice.say(t, room, "ends the next one, which the proxy has edited")
	eventually(t, func() bool { return proxy.Count(homeserver.Seen(rejections)) > 10 }, "the bot rejects nothing")
	invited := alice.NewRoom(t)
	rig.Within(t, 10*time.Second, "an answer amid invitations", func() {
		alice.say(t, room, "ping")
		alice.answers(t, room, robot.UserID, 1)
	})
	rig.Within(t, 10*time.Second, "an invitation to follow amid others", func() {
		_, err := alice.InviteUser(t.Context(), invited, &mautrix.ReqInviteUser{UserID: robot.UserID})
		require.NoError(t, err)
		eventually(t, func() bool {
			return slices.ContainsFunc(got.list(), func(evt adapter.InvitationEvent) bool { return evt.Channel == invited.String() && evt.Joined })
		}, "the bot did not join")
	})
	require.Less(t, runtime.NumGoroutine(), before+50)
	t.Logf("the bot holds %d MB of %d invitations", (heap()-held)>>20, many)
	rig.Within(t, 5*time.Second, "stopping", b.stop)
	require.EqualValues(t, 1, most.Load())
	require.Less(t, proxy.Count(homeserver.Seen(rejections)), many, "it has not stopped in the middle")
}

// A bot that is removed from a room and invited again between two syncs is not in the room.
func TestInvitedAgainBetweenSyncs(t *testing.T) {
	robot, alice, proxy := register(t), register(t), rig.Proxy(t)
	room := alice.newRoom(t, robot)
	var got record[adapter.InvitationEvent]
	var heard record[joe.ReceiveMessageEvent]
	start(t, setup{user: robot, homeserver: proxy.URL(), options: []adapter.Option{adapter.WithInvitesFrom()}, handlers: func(b *bot) {
		b.Brain.RegisterHandler(got.add)
		b.Brain.RegisterHandler(heard.add)
	}})
	// That it was removed a homeserver tells only between the two.
	proxy.Inject(homeserver.Fault{Match: rig.FollowUp, Do: homeserver.Edit(func(answer any) {
		rooms, _ := answer.(map[string]any)["rooms"].(map[string]any)
		delete(rooms, "leave")
	})})
	alice.say(t, room, "the answer that was under way")
	alice.say(t, room, "the next")
	heard.wait(t, 2)
	_, err := alice.KickUser(t.Context(), room, &mautrix.ReqKickUser{UserID: robot.UserID})
	require.NoError(t, err)
	_, err = alice.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: robot.UserID})
	require.NoError(t, err)
	require.False(t, got.wait(t, 1)[0].Joined)
	require.Equal(t, 1, proxy.Count(homeserver.Seen(rejections)))
}

// Joins that take long, as whoever invites can bring about, hold up no others.
func TestJoinsThatHang(t *testing.T) {
	alice, mallory, proxy := register(t), register(t), rig.Proxy(t)
	var got record[adapter.InvitationEvent]
	b := start(t, setup{homeserver: proxy.URL(), handlers: func(b *bot) { b.Brain.RegisterHandler(got.add) }})
	proxy.Inject(homeserver.Fault{Match: joins, Times: 3, Do: homeserver.BlackHole()})
	for range 3 {
		_, err := mallory.InviteUser(t.Context(), mallory.NewRoom(t), &mautrix.ReqInviteUser{UserID: b.user.UserID})
		require.NoError(t, err)
	}
	eventually(t, func() bool { return proxy.Count(homeserver.Seen(joins)) == 3 }, "the bot does not join")
	room := alice.NewRoom(t)
	_, err := alice.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: b.user.UserID})
	require.NoError(t, err)
	rig.Within(t, 10*time.Second, "the join", func() { got.wait(t, 1) }) // and not the timeout
	require.Equal(t, room.String(), got.list()[0].Channel)
	require.True(t, got.list()[0].Joined)
}
