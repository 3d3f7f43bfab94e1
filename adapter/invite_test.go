package adapter_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"

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
