package adapter_test

import (
	"context"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// faulty is encryption with a fault that a message brings to light.
type faulty struct{ mautrix.CryptoHelper }

func (faulty) WaitForSession(context.Context, id.RoomID, id.SenderKey, id.SessionID, time.Duration) bool {
	return true
}

func (faulty) Decrypt(context.Context, *event.Event) (*event.Event, error) {
	panic("a fault in this program")
}

// A fault that one message brings to light keeps nobody else's from being heard, and the
// log says where it was.
func TestFaultInOneMessage(t *testing.T) {
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	var heard record[joe.ReceiveMessageEvent]
	b := start(t, setup{user: robot, handlers: func(b *bot) {
		b.memory.Client().Crypto = faulty{}
		b.Brain.RegisterHandler(heard.add)
	}})
	alice.say(t, room, "before")
	_, err := alice.SendMessageEvent(t.Context(), room, event.EventEncrypted, &event.EncryptedEventContent{
		Algorithm: id.AlgorithmMegolmV1, SessionID: "session", MegolmCiphertext: []byte("secret"),
	}, mautrix.ReqSendEvent{DontEncrypt: true})
	require.NoError(t, err)
	alice.say(t, room, "after")
	require.Equal(t, "after", heard.wait(t, 2)[1].Text)
	alice.say(t, room, "later")
	require.Equal(t, "later", heard.wait(t, 3)[2].Text)
	require.Contains(t, b.log.String(), "survive_test.go")
	require.NotContains(t, b.log.String(), "secret")
}
