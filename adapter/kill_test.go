package adapter_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/adapter"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// A victim is a bot in a process of its own, to be killed.
type victim struct{ Homeserver, Token, Home string }

// victimEnv holds the victim that a process is to be, as JSON.
const victimEnv = "MATRIX_ADAPTER_TEST_VICTIM"

const listening = "listening"

func init() {
	if conf := os.Getenv(victimEnv); conf != "" {
		var v victim
		err := json.Unmarshal([]byte(conf), &v)
		if err == nil {
			err = v.run()
		}
		fmt.Println(err)
		os.Exit(1)
	}
}

// run runs the bot, and says when it hears.
func (v victim) run() error {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	memory := matrix.New(matrix.Config{Homeserver: v.Homeserver, AccessToken: v.Token, DefaultRoom: v.Home}, matrix.WithLogger(quiet))
	b := &bot{Bot: joe.New("victim", joe.WithLogger(zap.NewNop()), memory, adapter.New(memory)), memory: memory}
	remembering(b)
	b.Brain.RegisterHandler(func(joe.InitEvent) { fmt.Println(listening) })
	return b.Run()
}

// start starts the victim's process, waits until it hears, and returns how to kill it.
func (v victim) start(t *testing.T) (kill func()) {
	t.Helper()
	conf, err := json.Marshal(v)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+string(conf))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	killed := false
	kill = func() {
		if !killed {
			killed = true
			assert.NoError(t, cmd.Process.Kill())
			assert.Error(t, cmd.Wait())
		}
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, listening+"\n", line)
	return kill
}

// ownServer starts a homeserver for a test that is hard on it, with a proxy.
func ownServer(t *testing.T) (*homeserver.Server, *homeserver.Proxy) {
	t.Helper()
	own, err := homeserver.Start(t.Context(), homeserver.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, own.Stop()) })
	front, err := own.Proxy()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, front.Close()) })
	return own, front
}

// A bot is killed at each step of an answer and started again. It has given the
// answer once or not at all, as far as it came, and what it hears from then on it
// answers once.
func TestBotKilled(t *testing.T) {
	own, front := ownServer(t)
	robot, err := newUser(own, "robot")
	require.NoError(t, err)
	person, err := newUser(own, "person")
	require.NoError(t, err)
	room, home := person.newRoom(t, robot), robot.newRoom(t)
	v := victim{front.URL(), robot.token, home.String()}

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

// The homeserver is killed at each step of an answer and started again. The bot
// gives the answer once.
func TestHomeserverKilled(t *testing.T) {
	own, front := ownServer(t)
	robot, err := newUser(own, "robot")
	require.NoError(t, err)
	person, err := newUser(own, "person")
	require.NoError(t, err)
	room := person.newRoom(t, robot)
	b := start(t, setup{user: robot, homeserver: front.URL(), handlers: remembering})
	t.Cleanup(b.stop)

	var want []string
	for i, step := range []struct {
		pause func(chan<- struct{}, <-chan struct{}) homeserver.Action
		said  bool
	}{{homeserver.PauseBefore, false}, {homeserver.PauseAfter, true}, {lostAfter, true}} {
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
		require.NoError(t, own.Kill())
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

// lostAfter is like PauseAfter, but the answer is lost.
func lostAfter(reached chan<- struct{}, release <-chan struct{}) homeserver.Action {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		homeserver.ResetAfter()(w, r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			server.ServeHTTP(w, r)
			reached <- struct{}{}
			<-release
		}))
	}
}
