package adapter_test

import (
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
)

// A handler of all events, whose turn among the others joe leaves to chance, answers
// in the thread too.
func TestHandlerOfAllEventsAnswersInThread(t *testing.T) {
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	root := alice.say(t, room, "a topic")
	start(t, setup{user: robot, handlers: func(b *bot) {
		b.Brain.RegisterHandler(func(evt any) error {
			if message, ok := evt.(joe.ReceiveMessageEvent); ok {
				return b.Adapter.Send("answer", message.Channel)
			}
			return nil
		})
	}})
	const many = 12
	for range many {
		alice.send(t, room, &event.MessageEventContent{
			MsgType: event.MsgText, Body: "ping", RelatesTo: (&event.RelatesTo{}).SetThread(root, root),
		})
	}
	for _, answer := range alice.answers(t, room, robot.UserID, many) {
		require.Equal(t, root, answer.RelatesTo.GetThreadParent())
	}
}

func TestAnswersInThread(t *testing.T) {
	robot, alice := register(t), register(t)
	room, other := alice.newRoom(t, robot), alice.newRoom(t, robot)
	late, said := make(chan struct{}), make(chan error, 1)
	b := start(t, setup{user: robot, handlers: func(b *bot) {
		b.Respond("ping", func(msg joe.Message) error { return msg.RespondE("pong") })
		b.Respond("tell the other room", func(msg joe.Message) error { return b.Adapter.Send("news", other.String()) })
		b.Respond("later", func(msg joe.Message) error {
			go func() { <-late; said <- msg.RespondE("late") }()
			return nil
		})
	}})

	root := alice.say(t, room, "a topic")
	inThread := func(text string) *event.MessageEventContent {
		return &event.MessageEventContent{MsgType: event.MsgText, Body: text, RelatesTo: (&event.RelatesTo{}).SetThread(root, root)}
	}
	asked := alice.send(t, room, inThread("ping"))
	answer := alice.answers(t, room, robot.UserID, 1)[0]
	require.Equal(t, root, answer.RelatesTo.GetThreadParent())
	require.Equal(t, asked, answer.RelatesTo.GetReplyTo())
	require.True(t, answer.RelatesTo.IsFallingBack)

	alice.say(t, room, "ping")
	require.Nil(t, alice.answers(t, room, robot.UserID, 2)[1].RelatesTo, "an answer outside of the thread is in it")

	alice.send(t, room, inThread("tell the other room"))
	require.Nil(t, alice.answers(t, other, robot.UserID, 1)[0].RelatesTo)

	// The next message is handled only once joe is done with the one before.
	alice.send(t, room, inThread("later"))
	alice.say(t, room, "ping")
	alice.answers(t, room, robot.UserID, 3)
	close(late)
	require.NoError(t, <-said)
	require.NoError(t, b.Adapter.Send("by itself", room.String()))
	answers := alice.answers(t, room, robot.UserID, 5)
	require.Equal(t, []string{"pong", "pong", "pong", "late", "by itself"}, bodies(answers))
	for _, answer := range answers[1:] {
		require.Nil(t, answer.RelatesTo)
	}
}

// Older clients send threads as they were before Matrix had them.
func TestAnswersInUnstableThread(t *testing.T) {
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	start(t, setup{user: robot, handlers: func(b *bot) {
		b.Respond("ping", func(msg joe.Message) error { return msg.RespondE("pong") })
	}})
	root := alice.say(t, room, "a topic")
	asked := alice.send(t, room, &event.MessageEventContent{
		MsgType: event.MsgText, Body: "ping", RelatesTo: &event.RelatesTo{Type: "io.element.thread", EventID: root},
	})
	answer := alice.answers(t, room, robot.UserID, 1)[0]
	require.Equal(t, root, answer.RelatesTo.GetThreadParent())
	require.Equal(t, asked, answer.RelatesTo.GetReplyTo())
}
