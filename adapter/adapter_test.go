package adapter_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/go-joe/joe/reactions"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/adapter"
	"github.com/go-joe/matrix-memory/internal/bridge"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestMessageRoundTrip(t *testing.T) {
	noLeaks(t)
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	before := alice.say(t, room, "ping")

	var heard record[joe.ReceiveMessageEvent]
	b := start(t, setup{user: robot, handlers: func(b *bot) {
		b.Brain.RegisterHandler(heard.add)
		b.Respond("ping", func(msg joe.Message) error { return msg.RespondE("**pong**") })
	}})

	asked := alice.say(t, room, "ping")
	require.NotEqual(t, before, asked)
	answers := alice.answers(t, room, robot.UserID, 1)
	require.Equal(t, event.MsgNotice, answers[0].MsgType)
	require.Equal(t, "**pong**", answers[0].Body)
	require.Equal(t, event.FormatHTML, answers[0].Format)
	require.Equal(t, "<strong>pong</strong>", answers[0].FormattedBody)

	b.stop()
	events := heard.list()
	require.Len(t, events, 1, "the bot heard what was said before, or itself")
	require.Equal(t, asked.String(), events[0].ID)
	require.Equal(t, "ping", events[0].Text)
	require.Equal(t, alice.UserID.String(), events[0].AuthorID)
	require.Equal(t, room.String(), events[0].Channel)
	require.Equal(t, asked, id.EventID(events[0].Data.(*event.Event).ID))
	require.Len(t, alice.messages(t, room, robot.UserID), 1)
}

func TestOthersThatAreNotHeard(t *testing.T) {
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	var heard record[joe.ReceiveMessageEvent]
	b := start(t, setup{user: robot, handlers: func(b *bot) { b.Brain.RegisterHandler(heard.add) }})

	alice.send(t, room, &event.MessageEventContent{MsgType: event.MsgNotice, Body: "from a bot"})
	require.NoError(t, b.Adapter.Send("from itself", room.String()))
	alice.say(t, room, "the last")
	require.Equal(t, "the last", heard.wait(t, 1)[0].Text)
	b.stop()
	require.Len(t, heard.list(), 1)
}

func TestKindsOfMessages(t *testing.T) {
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	require.NoError(t, robot.SetDisplayName(t.Context(), "Marvin"))
	var heard record[joe.ReceiveMessageEvent]
	start(t, setup{user: robot, handlers: func(b *bot) { b.Brain.RegisterHandler(heard.add) }})

	first := alice.say(t, room, "  as it stands  ")
	for _, content := range []*event.MessageEventContent{
		{MsgType: event.MsgEmote, Body: "waves"},
		{MsgType: event.MsgImage, Body: "photo.png", URL: "mxc://test/photo"},
		{MsgType: event.MsgFile, Body: "a caption", FileName: "notes.txt", URL: "mxc://test/notes"},
		{MsgType: event.MsgText, Body: "> <@alice:test> was\n> said\n\nreplied", RelatesTo: (&event.RelatesTo{}).SetReplyTo(first)},
		{MsgType: event.MsgText, Body: "> <@a:b> not a reply\nat all"},
		{MsgType: event.MsgText, Body: "> <@a:b> quoted\nin a thread", RelatesTo: (&event.RelatesTo{}).SetThread(first, first)},
		{MsgType: event.MsgText, Body: "> <@a:b> was said\n\nreplied in a thread", RelatesTo: (&event.RelatesTo{}).SetThread(first, "").SetReplyTo(first)},
		{MsgType: event.MsgText, Body: robot.UserID.String() + ": by ID"},
		{MsgType: event.MsgText, Body: "marvin: by name"},
	} {
		alice.send(t, room, content)
	}
	var texts []string
	for _, evt := range heard.wait(t, 10) {
		texts = append(texts, evt.Text)
	}
	require.Equal(t, []string{
		"  as it stands  ", "waves", "", "a caption", "replied", "> <@a:b> not a reply\nat all",
		"> <@a:b> quoted\nin a thread", "replied in a thread", "by ID", "by name",
	}, texts)
}

// What is said between joe.New and Run is heard once the bot runs.
func TestHearsWhatWasSaidBeforeRun(t *testing.T) {
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	alice.say(t, room, "too early")
	var heard record[joe.ReceiveMessageEvent]
	b := prepare(t, setup{user: robot, handlers: func(b *bot) { b.Brain.RegisterHandler(heard.add) }})
	alice.say(t, room, "in time")
	b.run(t)
	alice.say(t, room, "later")
	events := heard.wait(t, 2)
	require.Equal(t, []string{"in time", "later"}, []string{events[0].Text, events[1].Text})
}

func TestSendByNameAliasAndID(t *testing.T) {
	robot, alice := register(t), register(t)
	home := robot.newRoom(t)
	alias := robot.NewAlias(t, home)
	b := start(t, setup{user: robot, home: home})

	for _, channel := range []string{"main", alias.String(), home.String()} {
		require.NoError(t, b.Adapter.Send("to "+channel, channel))
	}
	require.Len(t, robot.answers(t, home, robot.UserID, 3), 3)

	require.ErrorIs(t, b.Adapter.Send("x", "nowhere"), matrix.ErrUnknownRoom)
	require.ErrorIs(t, b.Adapter.Send("x", "#no-such-alias:"+rig.Shared(t).Name()), matrix.ErrUnknownRoom)
	require.Error(t, b.Adapter.Send(" \n", "main"))
	require.ErrorIs(t, b.Adapter.Send("x", alice.newRoom(t).String()), matrix.ErrForbidden)
}

func TestTextMessages(t *testing.T) {
	b := start(t, setup{options: []adapter.Option{adapter.WithTextMessages()}})
	require.NoError(t, b.Adapter.Send("hello", "main"))
	room, err := bridge.Session(b.memory).Resolve(t.Context(), "main")
	require.NoError(t, err)
	said := b.user.answers(t, room, b.user.UserID, 1)
	require.Len(t, said, 1)
	require.Equal(t, event.MsgText, said[0].MsgType)
	require.Equal(t, "hello", said[0].Body)
	require.Empty(t, said[0].FormattedBody, "there is nothing to format")
}

// HTML that a handler passes on, perhaps from a user, is shown and not rendered.
func TestHTMLIsNotRendered(t *testing.T) {
	b := start(t, setup{})
	require.NoError(t, b.Adapter.Send("<img src=x> & *this*", "main"))
	room, err := bridge.Session(b.memory).Resolve(t.Context(), "main")
	require.NoError(t, err)
	require.Equal(t, "&lt;img src=x&gt; &amp; <em>this</em>", b.user.answers(t, room, b.user.UserID, 1)[0].FormattedBody)
}

func TestClose(t *testing.T) {
	noLeaks(t)
	b := start(t, setup{})
	b.stop()
	require.ErrorIs(t, b.Adapter.Send("x", "main"), matrix.ErrClosed)
	require.ErrorIs(t, b.Adapter.(joe.ReactionAwareAdapter).React(reactions.Thumbsup, joe.Message{}), matrix.ErrClosed)
	require.NoError(t, b.Adapter.Close())
}

// Closing waits until what a handler says is said.
func TestCloseWaitsForSends(t *testing.T) {
	robot := register(t)
	home := robot.newRoom(t)
	proxy := rig.Proxy(t)
	b := start(t, setup{user: robot, home: home, homeserver: proxy.URL()})

	reached, release := make(chan struct{}), make(chan struct{})
	proxy.Inject(homeserver.Fault{Match: homeserver.EventSend, Times: 1, Do: homeserver.PauseBefore(reached, release)})
	sent := make(chan error, 1)
	go func() { sent <- b.Adapter.Send("goodbye", "main") }()
	<-reached
	stopped := make(chan struct{})
	go func() { defer close(stopped); b.stop() }()
	eventually(t, func() bool { return errors.Is(b.Adapter.Send("", "main"), matrix.ErrClosed) }, "the adapter is not closed")
	select {
	case <-stopped:
		require.Fail(t, "the bot stopped while a message was being sent")
	default:
	}
	close(release)
	require.NoError(t, <-sent)
	<-stopped
	require.Equal(t, []string{"goodbye"}, bodies(robot.answers(t, home, robot.UserID, 1)))
}

// Joe panics if an event is emitted while it shuts down; the adapter must not
// let that happen, however busy the rooms are.
func TestShutdownAmidMessages(t *testing.T) {
	noLeaks(t)
	robot, alice := register(t), register(t)
	room, home := alice.newRoom(t, robot), robot.newRoom(t)
	var quiet atomic.Bool
	var talking sync.WaitGroup
	talking.Go(func() {
		for !quiet.Load() {
			_, _ = alice.UserTyping(t.Context(), room, true, time.Minute)
			_, _ = alice.SendText(t.Context(), room, "blah")
			_, _ = alice.UserTyping(t.Context(), room, false, 0)
		}
	})
	defer talking.Wait()
	defer quiet.Store(true)
	for range 3 {
		var heard record[joe.ReceiveMessageEvent]
		b := start(t, setup{user: robot, home: home, handlers: func(b *bot) { b.Brain.RegisterHandler(heard.add) }})
		heard.wait(t, 2)
		b.stop()
	}
}

// A program may shut the brain down by itself, which ends the bot.
func TestShutdownByTheProgram(t *testing.T) {
	noLeaks(t)
	robot, alice := register(t), register(t)
	room, home := alice.newRoom(t, robot), robot.newRoom(t)
	var heard record[joe.ReceiveMessageEvent]
	b := start(t, setup{user: robot, home: home, handlers: func(b *bot) { b.Brain.RegisterHandler(heard.add) }})
	alice.say(t, room, "hello")
	heard.wait(t, 1)
	b.Brain.Shutdown(t.Context())
	for range 3 {
		alice.say(t, room, "is anybody there?")
	}
	b.stop()
	require.Len(t, heard.list(), 1)
}

// A bot whose memory was not handed to joe.New says so, and does not stumble over
// what its client brings.
func TestMemoryNotOpen(t *testing.T) {
	noLeaks(t)
	robot, alice := register(t), register(t)
	client, err := mautrix.NewClient(rig.Shared(t).URL(), robot.UserID, robot.AccessToken)
	require.NoError(t, err)
	memory := matrix.New(matrix.Config{}, matrix.WithClient(client))
	var log rig.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	bot := joe.New("x",
		joe.WithLogger(zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&log), zapcore.ErrorLevel))),
		joe.WithContext(ctx), adapter.New(memory))
	room := alice.newRoom(t)
	_, err = alice.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: robot.UserID})
	require.NoError(t, err)
	synced := make(chan struct{})
	client.Syncer.(mautrix.ExtensibleSyncer).OnSync(func(context.Context, *mautrix.RespSync, string) bool {
		close(synced)
		return false // once is enough
	})
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(t, bot.Run()) })
	running.Go(func() { _ = client.SyncWithContext(ctx) })

	eventually(t, func() bool { return strings.Contains(log.String(), "hand the memory to joe.New") }, "nothing was said")
	<-synced
	require.ErrorContains(t, bot.Adapter.Send("x", room.String()), "hand it to joe.New")
	cancel()
	running.Wait()
}

func TestOpenErrors(t *testing.T) {
	memory := matrix.New(matrix.Config{})
	for _, who := range []string{"@alice", "#room:example.org", "", "two words", "@:"} {
		bot := joe.New("x", joe.WithLogger(zap.NewNop()), adapter.New(memory, adapter.WithInvitesFrom(who)))
		require.ErrorContains(t, bot.Run(), "WithInvitesFrom", "%q", who)
	}

	client, err := mautrix.NewClient(rig.Shared(t).URL(), "@x:test", "token")
	require.NoError(t, err)
	client.Syncer.(*mautrix.DefaultSyncer).FilterJSON = &mautrix.Filter{Room: &mautrix.RoomFilter{
		Timeline: &mautrix.FilterPart{Types: []event.Type{event.EventReaction}},
	}}
	bot := joe.New("x", joe.WithLogger(zap.NewNop()), adapter.New(matrix.New(matrix.Config{}, matrix.WithClient(client))))
	require.ErrorContains(t, bot.Run(), "m.room.message")
}
