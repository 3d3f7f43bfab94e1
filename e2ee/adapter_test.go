//go:build goolm

package e2ee_test

import (
	"context"
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"
	"maunium.net/go/mautrix/event"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/adapter"
	"github.com/go-joe/matrix-memory/e2ee"
)

// startBot starts a bot that chats and remembers, and stops it when the test ends.
func startBot(t *testing.T, memory *matrix.Memory, handlers func(*joe.Bot)) *joe.Bot {
	ctx, stop := context.WithCancel(context.Background())
	bot := joe.New("bot", joe.WithLogger(zaptest.NewLogger(t)), joe.WithContext(ctx), memory, adapter.New(memory))
	handlers(bot)
	ended := make(chan error, 1)
	go func() { ended <- bot.Run() }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	return bot
}

// A bot reads and answers in an encrypted room, and remembers there.
func TestBotInAnEncryptedRoom(t *testing.T) {
	account, person := register(t), newPeer(t, register(t))
	room := account.newRoom(t, person.account)
	memory := matrix.New(account.config(t, room), e2ee.Enable())
	startBot(t, memory, func(bot *joe.Bot) {
		bot.Respond("remember (.+)", func(msg joe.Message) error {
			if err := bot.Store.Set("thing", msg.Matches[0]); err != nil {
				return err
			}
			msg.Respond("I remember %s", msg.Matches[0])
			return nil
		})
	})
	eventually(t, func() bool { keys, err := memory.Keys(); return err == nil && len(keys) == 0 }, "the bot does not start")

	person.encrypt(t, room, event.EventMessage, `{"msgtype":"m.text","body":"remember tea"}`)
	eventually(t, func() bool {
		response, err := person.Messages(t.Context(), room, "", "", 'b', nil, 10)
		require.NoError(t, err)
		for _, evt := range response.Chunk {
			if evt.Sender != account.UserID || evt.Type.Type != event.EventEncrypted.Type {
				continue
			}
			if answer, err := person.tryDecrypt(t, room, evt.ID); err == nil && answer.Content.Raw["body"] == "I remember tea" {
				return true
			}
		}
		return false
	}, "the bot does not answer")
	require.Contains(t, account.pointers(t, room), "thing")
}
