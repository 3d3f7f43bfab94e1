package adapter_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/adapter"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// server is the homeserver that the tests share, and alice and bob are people on it.
// Each test takes a bot and rooms of its own.
var (
	server     *homeserver.Server
	alice, bob *user
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "matrix-adapter-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	server, err = homeserver.Start(context.Background(), homeserver.Options{Dir: dir, Progress: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, "The tests need a homeserver:", err)
		return 1
	}
	defer server.Stop()
	if alice, err = newUser(server, "alice"); err == nil {
		bob, err = newUser(server, "bob")
	}
	if err == nil {
		err = alice.SetDisplayName(context.Background(), "Alice")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// memoryType is the type of the memory's state events.
var memoryType = event.Type{Type: "dev.opsdroid.database", Class: event.StateEventType}

// bound is how long a test waits for what must come.
const bound = 30 * time.Second

// A user is an account with a plain client.
type user struct {
	*mautrix.Client
	token string
}

// register makes a new account.
func register(t testing.TB) *user {
	t.Helper()
	u, err := newUser(server, "u"+strings.ToLower(rand.Text()))
	require.NoError(t, err)
	return u
}

// newUser makes an account, whose client goes on trying as the server restarts.
func newUser(server *homeserver.Server, name string) (*user, error) {
	made, err := server.Register(context.Background(), name, "a password")
	if err != nil {
		return nil, err
	}
	client, err := mautrix.NewClient(server.URL(), id.UserID(made.UserID), made.AccessToken)
	if err != nil {
		return nil, err
	}
	client.DeviceID = id.DeviceID(made.DeviceID)
	client.DefaultHTTPRetries = 10
	client.Client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // so that no goroutine stays
	return &user{client, made.AccessToken}, nil
}

// newRoom makes a room that belongs to the user, with others in it.
func (u *user) newRoom(t testing.TB, others ...*user) id.RoomID {
	t.Helper()
	request := &mautrix.ReqCreateRoom{
		Preset: "private_chat",
		PowerLevelOverride: &event.PowerLevelsEventContent{
			Events: map[string]int{memoryType.Type: 0}, // so that the bot may remember
		},
	}
	for _, other := range others {
		request.Invite = append(request.Invite, other.UserID)
	}
	room, err := u.CreateRoom(t.Context(), request)
	require.NoError(t, err)
	for _, other := range others {
		_, err := other.JoinRoomByID(t.Context(), room.RoomID)
		require.NoError(t, err)
	}
	return room.RoomID
}

// say sends a text.
func (u *user) say(t testing.TB, room id.RoomID, text string) id.EventID {
	t.Helper()
	return u.send(t, room, &event.MessageEventContent{MsgType: event.MsgText, Body: text})
}

// send sends a message.
func (u *user) send(t testing.TB, room id.RoomID, content *event.MessageEventContent) id.EventID {
	t.Helper()
	response, err := u.SendMessageEvent(t.Context(), room, event.EventMessage, content)
	require.NoError(t, err)
	return response.EventID
}

// messages returns what a user has said in a room, oldest first, by the
// homeserver's own account, which may be a moment behind what it has taken.
func (u *user) messages(t testing.TB, room id.RoomID, from id.UserID) []*event.MessageEventContent {
	t.Helper()
	var said []*event.MessageEventContent
	for token := ""; ; {
		response, err := u.Messages(t.Context(), room, token, "", mautrix.DirectionBackward, nil, 100)
		require.NoError(t, err)
		for _, evt := range response.Chunk {
			evt.Type.Class = event.MessageEventType
			if evt.Sender == from && evt.Type == event.EventMessage {
				require.NoError(t, evt.Content.ParseRaw(evt.Type))
				said = append(said, evt.Content.AsMessage())
			}
		}
		if response.End == "" || response.End == token || len(response.Chunk) == 0 {
			slices.Reverse(said)
			return said
		}
		token = response.End
	}
}

// bodies returns the plain texts of messages.
func bodies(messages []*event.MessageEventContent) []string {
	var all []string
	for _, m := range messages {
		all = append(all, m.Body)
	}
	return all
}

// answers waits until a user has said at least n things in a room, and returns them.
func (u *user) answers(t testing.TB, room id.RoomID, from id.UserID, n int) []*event.MessageEventContent {
	t.Helper()
	var said []*event.MessageEventContent
	eventually(t, func() bool {
		said = u.messages(t, room, from)
		return len(said) >= n
	}, "%s has said less than %d things in %s", from, n, room)
	return said
}

// A bot is a running bot.
type bot struct {
	*joe.Bot
	user   *user
	memory *matrix.Memory
	log    *logBuffer
	stop   func() // stops the bot and waits; may be called twice
}

// A setup says what bot to start.
type setup struct {
	user       *user
	home       id.RoomID // the default room; "": a new one
	homeserver string    // "": the server's own URL
	options    []adapter.Option
	memory     []matrix.Option
	config     func(*matrix.Config)
	handlers   func(*bot)
	botLog     *zap.Logger // nil: none
}

// start starts a bot and stops it when the test ends.
func start(t testing.TB, s setup) *bot {
	t.Helper()
	b := prepare(t, s)
	b.run(t)
	return b
}

// prepare makes a bot that does not run yet.
func prepare(t testing.TB, s setup) *bot {
	t.Helper()
	if s.user == nil {
		s.user = register(t)
	}
	if s.home == "" {
		s.home = s.user.newRoom(t)
	}
	if s.homeserver == "" {
		s.homeserver = server.URL()
	}
	if s.botLog == nil {
		s.botLog = zap.NewNop()
	}
	b := &bot{user: s.user, log: &logBuffer{}}
	log := logrus.New()
	log.SetOutput(b.log)
	log.SetLevel(logrus.TraceLevel)
	conf := matrix.Config{
		Homeserver:  s.homeserver,
		AccessToken: s.user.token,
		Rooms:       map[string]string{"main": s.home.String()},
		Timeout:     20 * time.Second,
	}
	if s.config != nil {
		s.config(&conf)
	}
	b.memory = matrix.New(conf, append([]matrix.Option{matrix.WithLogger(log)}, s.memory...)...)
	ctx, cancel := context.WithCancel(context.Background())
	b.Bot = joe.New("testbot",
		joe.WithLogger(s.botLog), joe.WithContext(ctx),
		b.memory, adapter.New(b.memory, s.options...))
	if s.handlers != nil {
		s.handlers(b)
	}
	b.stop = cancel
	t.Cleanup(func() {
		b.stop()
		if t.Failed() {
			t.Log("the bot's log:\n" + b.log.String())
		}
	})
	return b
}

// run runs the bot until it is stopped.
func (b *bot) run(t testing.TB) {
	t.Helper()
	cancel, ended := b.stop, make(chan error, 1)
	initialized := make(chan struct{})
	b.Brain.RegisterHandler(func(joe.InitEvent) { close(initialized) })
	go func() { ended <- b.Run() }()
	select {
	case <-initialized:
	case err := <-ended:
		require.FailNow(t, "the bot did not start", "%v", err)
	}
	b.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			assert.NoError(t, err)
		case <-time.After(bound):
			t.Error("the bot did not stop")
		}
	})
}

// logBuffer collects a log.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// A record collects what handlers were handed.
type record[T any] struct {
	mu  sync.Mutex
	all []T
}

func (r *record[T]) add(x T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, x)
}

func (r *record[T]) list() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// wait waits until at least n were collected.
func (r *record[T]) wait(t testing.TB, n int) []T {
	t.Helper()
	eventually(t, func() bool { return len(r.list()) >= n }, "fewer than %d events came", n)
	return r.list()
}

// eventually waits until a condition holds.
func eventually(t testing.TB, condition func() bool, message string, args ...any) {
	t.Helper()
	require.Eventually(t, condition, bound, 20*time.Millisecond, append([]any{message}, args...)...)
}

// noLeaks fails the test if it leaves goroutines behind. Joe itself leaves those
// that wait for signals.
func noLeaks(t testing.TB) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/go-joe/joe.cliContext.func1"))
	})
}
