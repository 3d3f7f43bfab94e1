package adapter_test

import (
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/adapter"
)

func TestMentionsOnly(t *testing.T) {
	robot, alice, bob := register(t), register(t), register(t)
	require.NoError(t, robot.SetDisplayName(t.Context(), "Marvin"))
	alone, crowd := alice.newRoom(t, robot), alice.newRoom(t, robot, bob)
	var heard record[joe.ReceiveMessageEvent]
	start(t, setup{user: robot, options: []adapter.Option{adapter.WithMentionsOnly()}, handlers: func(b *bot) {
		b.Brain.RegisterHandler(heard.add)
	}})

	alice.say(t, alone, "between us")
	heard.wait(t, 1)
	alice.say(t, crowd, "not for the bot")
	alice.say(t, crowd, "Marvin: by name")
	bob.say(t, crowd, "by name in between, marvin!")
	bob.say(t, crowd, robot.UserID.String()+" by ID")
	alice.send(t, crowd, &event.MessageEventContent{MsgType: event.MsgText, Body: "by client", Mentions: &event.Mentions{UserIDs: []id.UserID{robot.UserID}}})
	alice.send(t, crowd, &event.MessageEventContent{MsgType: event.MsgText, Body: "for Bob", Mentions: &event.Mentions{UserIDs: []id.UserID{bob.UserID}}})
	alice.send(t, crowd, &event.MessageEventContent{
		MsgType: event.MsgText, Body: "The robot: by link", Format: event.FormatHTML,
		FormattedBody: `<a href="https://matrix.to/#/` + robot.UserID.String() + `">The robot</a>: by link`,
	})

	alice.send(t, crowd, &event.MessageEventContent{ // as Element X writes it
		MsgType: event.MsgText, Body: "[" + robot.UserID.String() + "](https://matrix.to/#/" + robot.UserID.String() + ") by Markdown",
	})
	// HTML that no renderer survives does no harm.
	alice.send(t, crowd, &event.MessageEventContent{
		MsgType: event.MsgText, Body: "not for the bot", Format: event.FormatHTML,
		FormattedBody: `<a href="x">x</a><ol start="-9223372036854775808"><li>a</li></ol>`,
	})

	heard.wait(t, 7) // before there are two
	// When there are two left, the bot hears all, and when there are three again, it does not.
	_, err := bob.LeaveRoom(t.Context(), crowd)
	require.NoError(t, err)
	alice.say(t, crowd, "between us again")
	_, err = alice.InviteUser(t.Context(), crowd, &mautrix.ReqInviteUser{UserID: bob.UserID})
	require.NoError(t, err)
	_, err = bob.JoinRoomByID(t.Context(), crowd)
	require.NoError(t, err)
	alice.say(t, crowd, "not for the bot either")
	alice.say(t, crowd, "Marvin, the last")

	var texts []string
	for _, evt := range heard.wait(t, 9) {
		texts = append(texts, evt.Text)
	}
	require.Equal(t, []string{
		"between us", "by name", "by name in between, marvin!", "by ID", "by client", "by link", "by Markdown", "between us again", "the last",
	}, texts)
}
