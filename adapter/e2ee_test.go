//go:build goolm

package adapter_test

import (
	"testing"

	"github.com/go-joe/joe"
	"github.com/go-joe/joe/reactions"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/adapter"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// Two bots, of which one plays a person, talk in an encrypted room: in a thread,
// too, and the homeserver sees nothing of it.
func TestEncryptedRoom(t *testing.T) {
	said := []adapter.Option{adapter.WithTextMessages()}
	var heard record[joe.ReceiveMessageEvent]
	var reacted record[reactions.Event]
	person := start(t, encrypted(t, setup{options: said, handlers: func(b *bot) {
		b.Brain.RegisterHandler(heard.add)
		b.Brain.RegisterHandler(reacted.add)
	}}))
	t.Cleanup(person.stop)
	robot := start(t, encrypted(t, setup{options: said, handlers: remembering}))
	t.Cleanup(robot.stop)

	room := person.user.newRoom(t, rig.Encrypted)
	_, err := person.user.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: robot.user.UserID})
	require.NoError(t, err)
	eventually(t, func() bool {
		joined, err := person.user.JoinedMembers(t.Context(), room)
		return err == nil && len(joined.Joined) == 2
	}, "the bot did not join")

	require.NoError(t, person.Adapter.Send("remember tea is green #1", room.String()))
	require.NoError(t, person.Adapter.Send("what is tea #2", room.String()))
	answers := heard.wait(t, 2)
	require.Equal(t, []string{"OK #1", "green #2"}, []string{answers[0].Text, answers[1].Text})
	require.Equal(t, event.EventMessage, answers[0].Data.(*event.Event).Type)
	require.Nil(t, answers[1].Data.(*event.Event).Content.AsMessage().RelatesTo)

	// A reaction goes in the clear, as every client's does.
	require.NoError(t, robot.Adapter.(joe.ReactionAwareAdapter).React(reactions.Thumbsup, joe.Message{ID: answers[0].ID, Channel: room.String()}))
	require.Equal(t, answers[0].ID, reacted.wait(t, 1)[0].MessageID)

	// In a thread, as a client sends it.
	root := id.EventID(answers[0].ID)
	content := &event.MessageEventContent{
		MsgType: event.MsgText, Body: "what is tea #3", RelatesTo: (&event.RelatesTo{}).SetThread(root, root),
	}
	ciphertext, err := person.memory.Client().Crypto.Encrypt(t.Context(), room, event.EventMessage, content)
	require.NoError(t, err)
	asked, err := person.user.SendMessageEvent(t.Context(), room, event.EventEncrypted, ciphertext, mautrix.ReqSendEvent{DontEncrypt: true})
	require.NoError(t, err)
	answer := heard.wait(t, 3)[2]
	require.Equal(t, "green #3", answer.Text)
	relation := answer.Data.(*event.Event).Content.AsMessage().RelatesTo
	require.Equal(t, root, relation.GetThreadParent())
	require.Equal(t, asked.EventID, relation.GetReplyTo())

	require.Empty(t, person.user.messages(t, room, person.user.UserID), "something was said in the clear")
	require.Empty(t, person.user.messages(t, room, robot.user.UserID), "something was answered in the clear")
}
