package adapter_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/go-joe/joe/reactions"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/adapter"
	"github.com/go-joe/matrix-memory/internal/bridge"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/internal/session"
)

// startBehind starts a bot whose connection is opened in the background. Of its memory there is
// nothing but that. It returns when the bot runs; stop may be called twice.
func startBehind(t testing.TB, robot person, front *homeserver.Proxy, room id.RoomID, alias string, handlers ...any) (bot *joe.Bot, memory *matrix.Memory, log *rig.Buffer, stop func()) {
	t.Helper()
	logger, log := rig.KeepLog()
	memory = matrix.New(matrix.Config{})
	connection := bridge.Session(memory)
	ctx, cancel := context.WithCancel(context.Background())
	bot = joe.New("testbot", joe.WithLogger(zap.NewNop()), joe.WithContext(ctx),
		joe.ModuleFunc(func(*joe.Config) error {
			return connection.OpenBehind(session.Options{
				Homeserver: front.URL(), AccessToken: robot.AccessToken, Rooms: map[string]string{"main": alias},
				Recent: rig.MemoryType, Timeout: 3 * time.Second, Log: logger,
				Update: func(session.Update) {}, Anew: func() {},
			}, session.Known{User: robot.UserID, Aliases: map[string]id.RoomID{alias: room}})
		}),
		adapter.New(memory))
	for _, handler := range handlers {
		bot.Brain.RegisterHandler(handler)
	}
	bot.Respond("ping", func(msg joe.Message) error { return msg.RespondE("pong") })
	began := make(chan struct{})
	bot.Brain.RegisterHandler(func(joe.InitEvent) { close(began) })
	ended := make(chan error, 1)
	go func() { ended <- bot.Run() }()
	select {
	case <-began:
	case err := <-ended:
		require.FailNow(t, "the bot did not start", "%v", err)
	}
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ended)
		connection.Close()
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return bot, memory, log, stop
}

// whoami matches the requests by which a bot with a token logs in.
func whoami(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/account/whoami") }

// A job is an event of the bot's own, as of a cron job.
type job struct{ done chan struct{} }

// A bot whose homeserver is away runs: its jobs do, and what it says waits, and fails if that takes
// too long. Once the homeserver is there, it chats, and has not heard what was said before.
func TestStartsWithoutANetwork(t *testing.T) {
	for name, outage := range map[string]homeserver.Action{"black hole": homeserver.BlackHole(), "reset": homeserver.ResetBefore()} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			robot, alice := register(t), register(t)
			home := alice.newRoom(t, robot)
			alias := alice.NewAlias(t, home).String()
			front := rig.Proxy(t)
			back := front.Inject(homeserver.Fault{Do: outage})
			alice.say(t, home, "before")

			var heard record[joe.ReceiveMessageEvent]
			var invitations record[adapter.InvitationEvent]
			bot, _, log, stop := startBehind(t, robot, front, home, alias, heard.add, invitations.add, func(j job) { close(j.done) })
			done := make(chan struct{})
			bot.Brain.Emit(job{done})
			<-done
			alice.say(t, home, "ping")
			invited := alice.NewRoom(t)
			_, err := alice.InviteUser(t.Context(), invited, &mautrix.ReqInviteUser{UserID: robot.UserID})
			require.NoError(t, err)

			rig.Within(t, 6*time.Second, "the error", func() { err = bot.Adapter.Send("lost", "main") })
			require.ErrorContains(t, err, "matrix adapter: sending to main: ")
			require.ErrorContains(t, err, "the homeserver could not be reached since")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			react := bot.Adapter.(joe.ReactionAwareAdapter)
			require.ErrorContains(t, react.React(reactions.Thumbsup, joe.Message{ID: "$event", Channel: "main"}), "the homeserver could not be reached since")
			require.Empty(t, heard.list())

			waiting := make(chan error, 1)
			go func() { waiting <- bot.Adapter.Send("late", "main") }()
			eventually(t, func() bool { return front.Count(homeserver.Seen(whoami)) > 1 }, "it tries")
			back()
			if err := <-waiting; err != nil { // its time may have been over first, or while it was sent
				require.ErrorIs(t, err, context.DeadlineExceeded)
				eventually(t, func() bool { return bot.Adapter.Send("late", "main") == nil }, "it can say something")
			}
			require.Equal(t, alice.UserID.String(), invitations.wait(t, 1)[0].AuthorID)
			alice.say(t, home, "ping")
			said := func() []string { return slices.Compact(bodies(alice.messages(t, home, robot.UserID))) }
			eventually(t, func() bool { return slices.Contains(said(), "pong") }, "it answers")
			stop()
			require.Len(t, heard.list(), 1, "it has heard what was said while it was away")
			require.Equal(t, []string{"late", "pong"}, said())
			require.Contains(t, log.String(), "The homeserver can be reached, and the bot is connected")
		})
	}
}

// A bot that was never connected shuts down at once, whatever it is saying.
func TestShutdownWithoutANetwork(t *testing.T) {
	noLeaks(t)
	robot := register(t)
	home := robot.newRoom(t)
	front := rig.Proxy(t)
	front.Inject(homeserver.Fault{Do: homeserver.BlackHole()})
	bot, _, _, stop := startBehind(t, robot, front, home, "#main:localhost")
	said := make(chan error, 1)
	begun := make(chan struct{})
	bot.Brain.RegisterHandler(func(job) {
		close(begun)
		said <- bot.Adapter.Send("lost", "main")
	})
	bot.Brain.Emit(job{})
	<-begun
	rig.Within(t, 2*time.Second, "the end", stop)
	require.ErrorContains(t, <-said, "the homeserver could not be reached since")
	require.ErrorIs(t, bot.Adapter.Send("later", "main"), matrix.ErrClosed)
}
