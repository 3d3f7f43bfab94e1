package adapter_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"maunium.net/go/mautrix/event"

	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// No text of a message is in a log at any level: not what is heard, not what is
// said, and not what could not be said.
func TestNoTextIsLogged(t *testing.T) {
	const secret = "xyzzy"
	robot, alice := register(t), register(t)
	room, home := alice.newRoom(t, robot), robot.newRoom(t)
	proxy := rig.Proxy(t)
	var log rig.Buffer
	failed := make(chan error, 1)
	b := start(t, setup{
		user: robot, home: home, homeserver: proxy.URL(),
		botLog: zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&log), zapcore.DebugLevel)),
		handlers: func(b *bot) {
			b.Respond("say (.+)", func(msg joe.Message) error { return msg.RespondE("**%s**", msg.Matches[0]) })
			b.Respond("fail (.+)", func(msg joe.Message) error {
				err := msg.RespondE("%s", msg.Matches[0])
				failed <- err
				return err
			})
		},
	})
	t.Cleanup(b.stop)

	said := alice.say(t, room, "say "+secret)
	edit := &event.MessageEventContent{MsgType: event.MsgText, Body: "say " + secret}
	edit.SetEdit(said)
	alice.send(t, room, edit)
	for _, malformed := range []map[string]any{{"msgtype": "", "body": secret}, {"msgtype": "m.text", "body": secret, "format": 7}} {
		_, err := alice.SendMessageEvent(t.Context(), room, event.EventMessage, malformed)
		require.NoError(t, err)
	}
	alice.answers(t, room, robot.UserID, 1)
	proxy.Inject(homeserver.Fault{Match: homeserver.EventSend, Times: 1, Do: homeserver.StatusAfter(http.StatusBadGateway)})
	require.NoError(t, b.Adapter.Send(secret+"\n"+strings.Repeat(secret+"\n", 12_000), room.String())) // in parts
	proxy.Inject(homeserver.Fault{Match: homeserver.EventSend, Times: 1, Do: homeserver.Status(http.StatusForbidden, nil, `{"errcode":"M_FORBIDDEN"}`)})
	alice.say(t, room, "fail "+secret)
	require.Error(t, <-failed)
	b.stop()

	require.Contains(t, b.log.String(), "mautrix: Request completed")
	require.NotContains(t, b.log.String(), secret)
	require.Contains(t, log.String(), "Event handler failed")
	require.NotContains(t, log.String(), secret)
}
