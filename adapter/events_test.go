package adapter_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/go-joe/joe/reactions"
	"github.com/stretchr/testify/require"
	"go.mau.fi/util/variationselector"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"

	"github.com/go-joe/matrix-memory/adapter"
)

// People can send anything, and other clients show it.
func TestOddMessages(t *testing.T) {
	robot, alice := register(t), register(t)
	require.NoError(t, robot.SetDisplayName(t.Context(), "Bot"))
	room := alice.newRoom(t, robot)
	var heard record[joe.ReceiveMessageEvent]
	start(t, setup{user: robot, handlers: func(b *bot) { b.Brain.RegisterHandler(heard.add) }})
	for i, content := range []string{
		`{"msgtype":"m.text","body":"help","info":"x"}`,
		`{"msgtype":"m.text","body":"help","m.mentions":[]}`,
		`{"msgtype":"m.text","body":"help","m.relates_to":{"m.in_reply_to":"x"}}`,
		`{"msgtype":"m.text","body":"help","format":"org.matrix.custom.html","formatted_body":5}`,
		`{"msgtype":"m.text","body":"help","com.beeper.linkpreviews":"x","url":5,"filename":5}`,
		`{"msgtype":"m.text","body":"\u2068Bot\u2069: help"}`,
		`{"msgtype":"m.text","body":"Bot\u200b: help"}`,
		`{"msgtype":"m.text","body":"\u202eBot: help"}`,
	} {
		_, err := alice.SendMessageEvent(t.Context(), room, event.EventMessage, json.RawMessage(content))
		require.NoError(t, err)
		require.Equal(t, "help", heard.wait(t, i+1)[i].Text, content)
	}
}

func TestReactions(t *testing.T) {
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	var got record[reactions.Event]
	refused := make(chan error, 1)
	start(t, setup{user: robot, handlers: func(b *bot) {
		b.Brain.RegisterHandler(got.add)
		b.Respond("react", func(msg joe.Message) error {
			refused <- msg.React(reactions.Bowtie) // a Slack emoji without a Unicode form
			return msg.React(reactions.Thumbsup)
		})
	}})

	asked := alice.say(t, room, "react")
	require.ErrorContains(t, <-refused, "Unicode")
	var reaction *event.ReactionEventContent
	eventually(t, func() bool {
		response, err := alice.Messages(t.Context(), room, "", "", mautrix.DirectionBackward, nil, 20)
		require.NoError(t, err)
		for _, evt := range response.Chunk {
			if evt.Type.Type == event.EventReaction.Type && evt.Sender == robot.UserID {
				evt.Type.Class = event.MessageEventType
				require.NoError(t, evt.Content.ParseRaw(evt.Type))
				reaction = evt.Content.AsReaction()
			}
		}
		return reaction != nil
	}, "no reaction")
	require.Equal(t, asked, reaction.RelatesTo.GetAnnotationID())
	require.Equal(t, "👍\ufe0f", reaction.RelatesTo.GetAnnotationKey())

	// Whichever way a client writes them, they are heard as Joe does.
	for _, reaction := range []reactions.Reaction{reactions.Tada, reactions.Thumbsup, reactions.Heart, reactions.Email, reactions.One} {
		before := len(got.list())
		_, err := alice.SendReaction(t.Context(), room, asked, variationselector.Add(reaction.Raw))
		require.NoError(t, err)
		require.Equal(t, reactions.Event{
			Reaction:  reactions.Reaction{Raw: reaction.Raw},
			MessageID: asked.String(),
			Channel:   room.String(),
			AuthorID:  alice.UserID.String(),
		}, got.wait(t, before+1)[before])
	}
}

func TestTyping(t *testing.T) {
	robot, alice := register(t), register(t)
	require.NoError(t, alice.SetDisplayName(t.Context(), "Alice"))
	room := alice.newRoom(t, robot)
	var got record[joe.UserTypingEvent]
	start(t, setup{user: robot, handlers: func(b *bot) { b.Brain.RegisterHandler(got.add) }})

	_, err := alice.UserTyping(t.Context(), room, true, time.Minute)
	require.NoError(t, err)
	require.Equal(t, joe.UserTypingEvent{
		User:    joe.User{ID: alice.UserID.String(), Name: alice.UserID.Localpart(), RealName: "Alice"},
		Channel: room.String(),
	}, got.wait(t, 1)[0])
}

func TestEditsAndRedactions(t *testing.T) {
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	var heard record[joe.ReceiveMessageEvent]
	var edits record[adapter.EditEvent]
	var redactions record[adapter.RedactionEvent]
	start(t, setup{user: robot, handlers: func(b *bot) {
		b.Brain.RegisterHandler(heard.add)
		b.Brain.RegisterHandler(edits.add)
		b.Brain.RegisterHandler(redactions.add)
	}})

	said := alice.say(t, room, "tee")
	heard.wait(t, 1) // a sync may bring it redacted already
	edit := &event.MessageEventContent{MsgType: event.MsgText, Body: "tea"}
	edit.SetEdit(said)
	edited := alice.send(t, room, edit)
	edits.wait(t, 1)
	_, err := alice.RedactEvent(t.Context(), room, said, mautrix.ReqRedact{Reason: "coffee"})
	require.NoError(t, err)

	redaction := redactions.wait(t, 1)[0]
	require.Equal(t, said.String(), redaction.MessageID)
	require.Equal(t, alice.UserID.String(), redaction.AuthorID)
	require.Equal(t, "coffee", redaction.Reason)
	require.Equal(t, room.String(), redaction.Channel)
	got := edits.wait(t, 1)[0]
	require.Equal(t, adapter.EditEvent{
		ID: edited.String(), MessageID: said.String(), Text: "tea",
		AuthorID: alice.UserID.String(), Channel: room.String(), Data: got.Data,
	}, got)
	require.Len(t, heard.list(), 1, "an edit was heard as a message")
}

func TestJoinsAndLeaves(t *testing.T) {
	robot, carol, alice := register(t), register(t), register(t)
	require.NoError(t, carol.SetDisplayName(t.Context(), "Carol"))
	room := alice.newRoom(t, robot)
	var joins record[adapter.JoinEvent]
	var leaves record[adapter.LeaveEvent]
	start(t, setup{user: robot, handlers: func(b *bot) {
		b.Brain.RegisterHandler(joins.add)
		b.Brain.RegisterHandler(leaves.add)
	}})

	_, err := alice.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: carol.UserID})
	require.NoError(t, err)
	_, err = carol.JoinRoomByID(t.Context(), room)
	require.NoError(t, err)
	join := joins.wait(t, 1)[0]
	require.Equal(t, adapter.JoinEvent{UserID: carol.UserID.String(), Name: "Carol", Channel: room.String(), Data: join.Data}, join)

	require.NoError(t, carol.SetDisplayName(t.Context(), "Carola")) // not a join
	_, err = alice.BanUser(t.Context(), room, &mautrix.ReqBanUser{UserID: register(t).UserID})
	require.NoError(t, err) // who was not in the room
	_, err = alice.KickUser(t.Context(), room, &mautrix.ReqKickUser{UserID: carol.UserID, Reason: "enough"})
	require.NoError(t, err)
	leave := leaves.wait(t, 1)[0]
	require.Equal(t, adapter.LeaveEvent{
		UserID: carol.UserID.String(), AuthorID: alice.UserID.String(), Reason: "enough", Channel: room.String(), Data: leave.Data,
	}, leave)

	_, err = alice.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: carol.UserID})
	require.NoError(t, err)
	_, err = carol.JoinRoomByID(t.Context(), room)
	require.NoError(t, err)
	_, err = alice.BanUser(t.Context(), room, &mautrix.ReqBanUser{UserID: carol.UserID})
	require.NoError(t, err)
	require.Equal(t, carol.UserID.String(), leaves.wait(t, 2)[1].UserID)

	_, err = alice.KickUser(t.Context(), room, &mautrix.ReqKickUser{UserID: robot.UserID})
	require.NoError(t, err)
	require.Equal(t, robot.UserID.String(), leaves.wait(t, 3)[2].UserID)
	require.Len(t, joins.list(), 2)
	require.Len(t, leaves.list(), 3)
}
