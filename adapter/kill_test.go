package adapter_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/adapter"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A victim is a bot in a process of its own, to be killed.
type victim struct{ Homeserver, Token, Home string }

const listening = "listening"

func init() { rig.Victim(victim.run) }

// run runs the bot, and says when it hears.
func (v victim) run() error {
	memory := matrix.New(matrix.Config{Homeserver: v.Homeserver, AccessToken: v.Token, DefaultRoom: v.Home}, matrix.WithLogger(rig.Silence()))
	b := &bot{Bot: joe.New("victim", joe.WithLogger(zap.NewNop()), memory, adapter.New(memory)), memory: memory}
	remembering(b)
	b.Brain.RegisterHandler(func(joe.InitEvent) { fmt.Println(listening) })
	return b.Run()
}

// start starts the victim's process, waits until it hears, and returns how to kill it.
func (v victim) start(t testing.TB) (kill func()) {
	t.Helper()
	line, kill := rig.StartVictim(t, v)
	require.Equal(t, listening, <-line)
	return kill
}

// A bot is killed at each step of an answer and started again. It has given the
// answer once or not at all, as far as it came, and what it hears from then on it
// answers once.
func TestBotKilled(t *testing.T) {
	own := rig.Own(t)
	front, robot, person := own.Proxy(t), personOf(own.Login(t, "robot")), personOf(own.Login(t, "person"))
	room, home := person.newRoom(t, robot), robot.newRoom(t)
	v := victim{front.URL(), robot.AccessToken, home.String()}

	var want []string
	number := 0
	ask := func(text, answer string) {
		number++
		person.say(t, room, fmt.Sprintf("%s #%d", text, number))
		if answer != "" {
			want = append(want, fmt.Sprintf("%s #%d", answer, number))
		}
	}
	kill := v.start(t)
	ask("remember tea is green", "OK")
	person.answers(t, room, robot.UserID, len(want))
	for _, step := range []struct {
		pause  func(chan<- struct{}, <-chan struct{}) homeserver.Action
		answer string
	}{{homeserver.PauseBefore, ""}, {homeserver.PauseAfter, "green"}} {
		reached, never := make(chan struct{}), make(chan struct{})
		remove := front.Inject(homeserver.Fault{Match: homeserver.EventSend, Do: step.pause(reached, never)})
		ask("what is tea", step.answer)
		select {
		case <-reached:
		case <-time.After(bound):
			require.FailNow(t, "the bot does not answer")
		}
		kill()
		remove()
		ask("what is tea", "") // while it is down
		kill = v.start(t)
		ask("what is tea", "green")
		require.Equal(t, want, bodies(person.answers(t, room, robot.UserID, len(want))))
	}
	kill()
	require.Equal(t, want, bodies(person.messages(t, room, robot.UserID)))
}

// patient gives what is said the time that a homeserver takes to be killed and started again.
func patient(conf *matrix.Config) { conf.Timeout = 2 * time.Minute }

// The homeserver is killed at each step of an answer and started again. The bot
// gives the answer once.
func TestHomeserverKilled(t *testing.T) {
	own := rig.Own(t)
	front, robot, person := own.Proxy(t), personOf(own.Login(t, "robot")), personOf(own.Login(t, "person"))
	room := person.newRoom(t, robot)
	b := start(t, setup{user: robot, homeserver: front.URL(), handlers: remembering, config: patient})
	t.Cleanup(b.stop)

	var want []string
	for i, step := range []struct {
		pause func(chan<- struct{}, <-chan struct{}) homeserver.Action
		said  bool
	}{{homeserver.PauseBefore, false}, {homeserver.PauseAfter, true}, {rig.LostAfter, true}} {
		reached, release := make(chan struct{}), make(chan struct{})
		front.Inject(homeserver.Fault{Match: homeserver.EventSend, Times: 1, Do: step.pause(reached, release)})
		person.say(t, room, fmt.Sprintf("remember tea is green #%d", i))
		want = append(want, fmt.Sprintf("OK #%d", i))
		select {
		case <-reached:
		case <-time.After(bound):
			require.FailNow(t, "the bot does not answer")
		}
		if step.said { // and Dendrite does not lose it again
			person.answers(t, room, robot.UserID, len(want))
		}
		require.NoError(t, own.Kill(front))
		close(release)
		require.NoError(t, own.Restart(t.Context()))
		require.Equal(t, want, bodies(person.answers(t, room, robot.UserID, len(want))))
	}
	// By the time that this is answered, the bot has tried all it will.
	person.say(t, room, "what is tea #last")
	want = append(want, "green #last")
	person.answers(t, room, robot.UserID, len(want))
	b.stop()
	require.Equal(t, want, bodies(person.messages(t, room, robot.UserID)))
}
