package adapter_test

import (
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"

	"github.com/go-joe/matrix-memory/adapter"
)

// A bot that starts again at once, as the same device, hears nothing twice, and accepts no
// invitation twice: a homeserver may answer a first sync as it has answered the one before.
func TestStartedAgainAtOnce(t *testing.T) {
	robot, alice := register(t), register(t)
	home, public := alice.newRoom(t, robot.Account), alice.NewRoom(t)
	_, err := alice.SendStateEvent(t.Context(), public, event.StateJoinRules, "", &event.JoinRulesEventContent{JoinRule: event.JoinRulePublic})
	require.NoError(t, err)
	_, err = alice.InviteUser(t.Context(), public, &mautrix.ReqInviteUser{UserID: robot.UserID})
	require.NoError(t, err)
	var heard record[joe.ReceiveMessageEvent]
	var invitations record[adapter.InvitationEvent]
	settings := setup{user: robot, home: home, handlers: func(b *bot) {
		b.Brain.RegisterHandler(heard.add)
		b.Brain.RegisterHandler(invitations.add)
	}}
	b := start(t, settings)
	require.True(t, invitations.wait(t, 1)[0].Joined)
	alice.say(t, home, "one")
	heard.wait(t, 1)
	b.stop()
	_, err = robot.LeaveRoom(t.Context(), public)
	require.NoError(t, err)

	b = start(t, settings)
	alice.say(t, home, "two")
	events := heard.wait(t, 2)
	b.stop() // after which all that was heard has been handled
	require.Len(t, heard.list(), 2)
	require.Equal(t, []string{"one", "two"}, []string{events[0].Text, events[1].Text})
	require.Len(t, invitations.list(), 1)
	response, err := robot.JoinedRooms(t.Context())
	require.NoError(t, err)
	require.Len(t, response.JoinedRooms, 1)
}
