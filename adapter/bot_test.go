package adapter_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/adapter"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A bot is a running bot.
type bot struct {
	*joe.Bot
	user   person
	memory *matrix.Memory
	log    *rig.Buffer
	stop   func() // stops the bot and waits; may be called twice
}

// A setup says what bot to start.
type setup struct {
	user       person    // of no account: a new one
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
	if s.user.Client == nil {
		s.user = register(t)
	}
	if s.home == "" {
		s.home = s.user.newRoom(t)
	}
	if s.botLog == nil {
		s.botLog = zap.NewNop()
	}
	log, kept := rig.KeepLog()
	b := &bot{user: s.user, log: kept}
	conf := s.user.Config(s.home)
	conf.Timeout = 20 * time.Second
	if s.homeserver != "" {
		conf.Homeserver = s.homeserver
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
