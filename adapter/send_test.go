package adapter_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/go-joe/joe/reactions"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// Whatever goes wrong on the way, what the bot says is said once.
func TestSaysThingsOnce(t *testing.T) {
	robot := register(t)
	home := robot.newRoom(t)
	proxy := rig.Proxy(t)
	b := start(t, setup{user: robot, home: home, homeserver: proxy.URL()})
	t.Cleanup(b.stop)

	faults := map[string]homeserver.Action{
		"rate limit":     homeserver.RateLimit(time.Second),
		"bad gateway":    homeserver.Status(http.StatusBadGateway, nil, "not JSON"),
		"reset before":   homeserver.ResetBefore(),
		"reset after":    homeserver.ResetAfter(),
		"an error after": homeserver.StatusAfter(http.StatusInternalServerError),
		"nonsense after": homeserver.Corrupt("nonsense"),
	}
	var want []string
	found := 0 // how often the homeserver was asked what it had taken, and said so
	for name, fault := range faults {
		proxy.Inject(homeserver.Fault{Match: homeserver.EventSend, Times: 1, Do: fault})
		before := proxy.Count(homeserver.Seen(homeserver.EventSend))
		require.NoError(t, b.Adapter.Send(name, "main"), name)
		want = append(want, name)
		if proxy.Count(homeserver.Seen(homeserver.EventSend)) == before+1 {
			found++
		}
	}
	require.Greater(t, found, 1, "of three, the others may have been a moment late")
	require.Equal(t, want, bodies(robot.answers(t, home, robot.UserID, len(want))))

	proxy.Reset()
	proxy.Inject(homeserver.Fault{Match: homeserver.EventSend, Times: 1, Do: homeserver.Status(http.StatusForbidden, nil, `{"errcode":"M_FORBIDDEN"}`)})
	require.ErrorIs(t, b.Adapter.Send("not allowed", "main"), matrix.ErrForbidden)
	require.Equal(t, 1, proxy.Count(homeserver.Seen(homeserver.EventSend)), "what can't help was tried again")
	for _, said := range append(want, "not allowed") {
		require.NotContains(t, b.log.String(), `"`+said+`"`, "the log has what was said")
	}
}

// However many parts a text has, saying it is bounded by the timeout as a whole.
func TestSendIsBounded(t *testing.T) {
	robot := register(t)
	home := robot.newRoom(t)
	proxy := rig.Proxy(t)
	const timeout = 16 * time.Second
	b := start(t, setup{user: robot, home: home, homeserver: proxy.URL(), config: func(conf *matrix.Config) { conf.Timeout = timeout }})
	t.Cleanup(b.stop)

	proxy.Inject(homeserver.Fault{Match: homeserver.EventSend, Do: homeserver.Delay(timeout / 4)}) // well within that of one request
	began := time.Now()
	err := b.Adapter.Send(strings.Repeat("word ", 60_000), "main") // with the race detector a longer one takes long to render
	require.ErrorContains(t, err, "parts")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(began), 2*timeout)
}

// What is too long for an event is said in parts, which the homeserver takes.
func TestLongMessages(t *testing.T) {
	robot := register(t)
	home := robot.newRoom(t)
	b := start(t, setup{user: robot, home: home})

	line := strings.Repeat("word ", 15) + "<&>\n"
	text := "A list:\n" + strings.Repeat(line, 900) // formatted, it is twice as long
	require.NoError(t, b.Adapter.Send(text, "main"))
	require.NoError(t, b.Adapter.Send("the end", "main"))
	var said []*event.MessageEventContent
	eventually(t, func() bool {
		said = robot.messages(t, home, robot.UserID)
		return len(said) > 0 && said[len(said)-1].Body == "the end"
	}, "not all was said")
	require.Greater(t, len(said), 2)
	var lines int
	for _, part := range said[:len(said)-1] {
		for _, have := range strings.Split(strings.TrimSpace(part.Body), "\n") {
			if have != "A list:" {
				require.Equal(t, strings.TrimSpace(line), strings.TrimSpace(have), "a line was cut")
				lines++
			}
		}
	}
	require.Equal(t, 900, lines)

	require.NoError(t, b.Adapter.Send(strings.Repeat("ä", 70_000), "main"))
	parts := robot.answers(t, home, robot.UserID, len(said)+3)[len(said):]
	require.Len(t, parts, 3)
	require.Equal(t, strings.Repeat("ä", 70_000), strings.Join(bodies(parts), ""))
}

// The first answer in a room costs one request more than its own, and the next
// none: whether the room is encrypted.
func TestRequestsForAnAnswer(t *testing.T) {
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	proxy := rig.Proxy(t)
	b := start(t, setup{user: robot, homeserver: proxy.URL(), handlers: func(b *bot) {
		b.Respond("ping", func(msg joe.Message) error { return msg.RespondE("pong") })
	}})
	t.Cleanup(b.stop)
	for i, want := range []int{2, 1} {
		proxy.Reset()
		alice.say(t, room, "ping")
		alice.answers(t, room, robot.UserID, i+1)
		require.Equal(t, want, proxy.Count(func(r homeserver.Request) bool { return strings.Contains(r.Path, "/rooms/") }))
	}
}

// Without encryption, nothing goes to an encrypted room in the clear, and the log
// says once why the bot hears nothing there.
func TestEncryptedRoomWithoutEncryption(t *testing.T) {
	robot, alice := register(t), register(t)
	room, later := alice.newRoom(t, robot), alice.newRoom(t, robot)
	encrypt := &event.EncryptionEventContent{Algorithm: "m.megolm.v1.aes-sha2"}
	_, err := alice.SendStateEvent(t.Context(), room, event.StateEncryption, "", encrypt)
	require.NoError(t, err)
	b := start(t, setup{user: robot})

	require.ErrorIs(t, b.Adapter.Send("a secret", room.String()), matrix.ErrNoEncryption)
	said := alice.say(t, room, "in the clear")
	require.ErrorIs(t, b.Adapter.(joe.ReactionAwareAdapter).React(reactions.Thumbsup, joe.Message{ID: said.String(), Channel: room.String()}), matrix.ErrNoEncryption)
	require.NoError(t, b.Adapter.Send("not yet a secret", later.String()))
	_, err = alice.SendStateEvent(t.Context(), later, event.StateEncryption, "", encrypt)
	require.NoError(t, err)
	eventually(t, func() bool { return b.Adapter.Send("a secret", later.String()) != nil }, "the bot did not notice")
	require.ErrorIs(t, b.Adapter.Send("a secret", later.String()), matrix.ErrNoEncryption)

	const warning = "can't read in this room"
	for range 3 {
		_, err := alice.SendMessageEvent(t.Context(), room, event.EventEncrypted, map[string]any{
			"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x", "session_id": "x",
		}, mautrix.ReqSendEvent{DontEncrypt: true})
		require.NoError(t, err)
	}
	alice.say(t, room, "in the clear all the same")
	eventually(t, func() bool { return strings.Contains(b.log.String(), warning) }, "nothing was said")
	b.stop()
	require.Equal(t, 1, strings.Count(b.log.String(), warning))
}

// A room may have been encrypted long ago, where no timeline reaches.
func TestRoomEncryptedLongAgo(t *testing.T) {
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	_, err := alice.SendStateEvent(t.Context(), room, event.StateEncryption, "", &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1})
	require.NoError(t, err)
	for range 60 { // more than a sync brings
		alice.say(t, room, "in the clear all the same")
	}
	b := start(t, setup{user: robot})
	require.ErrorIs(t, b.Adapter.Send("a secret", room.String()), matrix.ErrNoEncryption)
	require.Empty(t, robot.messages(t, room, robot.UserID))
}

// A bot that says what was said to it pings only whom that did not name, or who asked.
func TestEchoPingsNobody(t *testing.T) {
	robot, alice, admin := register(t), register(t), register(t)
	room := alice.newRoom(t, robot, admin)
	link := func(p person) string { return "[x](https://matrix.to/#/" + p.UserID.String() + ")" }
	b := start(t, setup{user: robot, handlers: func(b *bot) {
		b.Respond("(?s)say (.+)", func(msg joe.Message) error { return msg.RespondE("%s", msg.Matches[0]) })
		b.Respond("call admin", func(msg joe.Message) error { return msg.RespondE("%s, please help %s", link(admin), link(alice)) })
	}})
	alice.say(t, room, "say "+link(admin)+" come to "+link(alice)+", @room")
	alice.say(t, room, "call admin")
	answers := alice.answers(t, room, robot.UserID, 2)
	require.Contains(t, answers[0].FormattedBody, admin.UserID.String())
	require.Equal(t, &event.Mentions{UserIDs: []id.UserID{alice.UserID}}, answers[0].Mentions)
	require.Equal(t, []id.UserID{admin.UserID, alice.UserID}, answers[1].Mentions.UserIDs)

	require.NoError(t, b.Adapter.Send(link(admin), room.String()))
	require.Equal(t, []id.UserID{admin.UserID}, alice.answers(t, room, robot.UserID, 3)[2].Mentions.UserIDs, "it answers nothing any more")
}

// Bytes that no message can hold are seen to be missing.
func TestTextThatNoMessageCanHold(t *testing.T) {
	robot := register(t)
	home := robot.newRoom(t)
	b := start(t, setup{user: robot, home: home})
	require.NoError(t, b.Adapter.Send("a\x00b\xffc\xed\xa0\x80d\x1be\uFFFF", "main"))
	require.Equal(t, "a\uFFFDb\uFFFDc\uFFFDd\x1be\uFFFF", robot.answers(t, home, robot.UserID, 1)[0].Body)
}
