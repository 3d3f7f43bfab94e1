package rig

import (
	"context"
	"sync"
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	matrix "github.com/go-joe/matrix-memory"
)

// A Bot is a running joe bot on a memory.
type Bot struct {
	*joe.Bot
	Memory *matrix.Memory
	Stop   func() error // ends Run and returns its error; may be called twice
}

// StartBot starts a bot, and stops it when the test ends. It hears what Say says, and
// what it says itself nobody hears.
func StartBot(t testing.TB, conf matrix.Config, modules ...joe.Module) Bot {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	memory := matrix.New(conf)
	all := append([]joe.Module{joe.WithContext(ctx), joe.WithLogger(zaptest.NewLogger(t)), memory, chat{}}, modules...)
	bot := joe.New("example", all...)
	ended := make(chan error, 1)
	stop := sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { require.NoError(t, stop()); require.NoError(t, memory.Close()) })
	go func() { ended <- bot.Run() }()
	return Bot{bot, memory, stop}
}

// Say says something to the bot and returns when its handler has ended, or joe no
// longer waits for it. The channel is what a room may be called.
func (b Bot) Say(channel, text string) {
	handled := make(chan struct{})
	b.Brain.Emit(joe.ReceiveMessageEvent{Text: text, Channel: channel}, func(joe.Event) { close(handled) })
	<-handled
}

// chat is a joe.Adapter that passes nothing on.
type chat struct{}

func (chat) RegisterAt(*joe.Brain)           {}
func (chat) Send(text, channel string) error { return nil }
func (chat) Close() error                    { return nil }
func (c chat) Apply(conf *joe.Config) error  { conf.SetAdapter(c); return nil }
