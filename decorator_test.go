package matrix_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestInEventRoom(t *testing.T) {
	account := rig.Register(t)
	home, other := account.NewRoom(t), account.NewRoom(t)
	alias := account.NewAlias(t, other).String()
	conf := account.Config(home)
	conf.Rooms["other"] = alias
	bot := rig.StartBot(t, conf)

	calls := make(chan string, 100) // what where found in each
	where := func() string {
		switch keys, err := bot.Store.Keys(); {
		case err != nil:
			return err.Error()
		default:
			return strings.Join(keys, " ")
		}
	}
	require.NoError(t, bot.Store.Set("home", true))
	require.NoError(t, bot.Memory.InRoom("other").Set("other", true))

	bot.Respond("where", bot.Memory.InEventRoom(func(joe.Message) error {
		calls <- where()
		return nil
	}))
	bot.Respond("plain", func(joe.Message) error {
		calls <- where()
		return nil
	})
	bot.Respond("fail", bot.Memory.InEventRoom(func(joe.Message) error { return errors.New("as asked") }))
	bot.Respond("panic", func(msg joe.Message) (err error) {
		defer func() { err = fmt.Errorf("%v", recover()); calls <- where() }()
		return bot.Memory.InEventRoom(func(joe.Message) error { panic("as asked") })(msg)
	})
	bot.Respond("exit", func(msg joe.Message) error {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			defer func() { calls <- where() }()
			_ = bot.Memory.InEventRoom(func(joe.Message) error { runtime.Goexit(); return nil })(msg)
		}()
		<-ended
		return nil
	})
	bot.Respond("nest", bot.Memory.InEventRoom(func(msg joe.Message) error {
		msg.Channel = ""
		err := bot.Memory.InEventRoom(func(joe.Message) error { calls <- where(); return nil })(msg)
		calls <- where()
		return err
	}))
	bot.Respond("goroutine", bot.Memory.InEventRoom(func(msg joe.Message) error {
		done := make(chan string)
		go func() { done <- where() }()
		calls <- <-done
		_, err := bot.Memory.InRoom(msg.Channel).Get("other", nil)
		return err
	}))

	next := func() string {
		t.Helper()
		select {
		case found := <-calls:
			return found
		case <-time.After(10 * time.Second):
			t.Fatal("no handler ran")
			return ""
		}
	}
	for channel, want := range map[string]string{other.String(): "other", alias: "other", "other": "other", "": "home", home.String(): "home"} {
		bot.Say(channel, "where")
		require.Equal(t, want, next(), "channel %q", channel)
		bot.Say(channel, "plain")
		require.Equal(t, "home", next(), "an unbound handler")
	}
	bot.Say("!nowhere:localhost", "where")
	bot.Say("nowhere", "where")
	require.Empty(t, calls, "a handler ran for an unknown room")
	err := bot.Memory.InEventRoom(func(joe.Message) error { t.Error("the handler ran"); return nil })(joe.Message{Channel: "nowhere"})
	require.ErrorIs(t, err, matrix.ErrUnknownRoom)
	require.ErrorContains(t, err, "the handler was not run")

	bot.Say(other.String(), "fail")
	bot.Say(other.String(), "plain")
	require.Equal(t, "home", next(), "after an error")
	bot.Say(other.String(), "panic")
	require.Equal(t, "home", next(), "after a panic")
	bot.Say(other.String(), "exit")
	require.Equal(t, "home", next(), "after runtime.Goexit")
	bot.Say(other.String(), "nest")
	require.Equal(t, "home", next(), "the inner binding")
	require.Equal(t, "other", next(), "the outer binding again")
	bot.Say(other.String(), "goroutine")
	require.Equal(t, "home", next(), "a goroutine that a handler starts is not bound")
}

// Many handlers at once over many rooms, others on the default room meanwhile:
// not one operation lands in the wrong room.
func TestInEventRoomManyAtOnce(t *testing.T) {
	account := rig.Register(t)
	home := account.NewRoom(t)
	memory := rig.Open(t, account.Config(home))
	store := joe.NewStorage(zaptest.NewLogger(t))
	store.SetMemory(memory)

	const rooms, handlers = 4, 3
	var channels []string
	for range rooms {
		channels = append(channels, account.NewRoom(t).String())
	}
	var all sync.WaitGroup
	for _, channel := range channels {
		for h := range handlers {
			all.Go(func() {
				handler := memory.InEventRoom(func(msg joe.Message) error {
					for i := range 2 {
						key := fmt.Sprintf("%d-%d", h, i)
						if err := store.Set(key, msg.Channel); err != nil {
							return err
						}
						var got string
						if ok, err := store.Get(key, &got); err != nil || !ok || got != msg.Channel {
							return fmt.Errorf("%s holds %q: %v, %w", key, got, ok, err)
						}
					}
					if h == 0 {
						_, err := store.Delete("0-0")
						return err
					}
					return nil
				})
				if err := handler(joe.Message{Channel: channel}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for h := range handlers {
		all.Go(func() {
			for i := range 4 {
				if err := store.Set(fmt.Sprintf("home-%d-%d", h, i), "home"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, channel := range channels {
		want := make(map[string]string)
		for h := range handlers {
			for i := range 2 {
				want[fmt.Sprintf("%d-%d", h, i)] = channel
			}
		}
		delete(want, "0-0")
		require.Equal(t, want, stored(t, memory.InRoom(channel)))
	}
	want := make(map[string]string)
	for h := range handlers {
		for i := range 4 {
			want[fmt.Sprintf("home-%d-%d", h, i)] = "home"
		}
	}
	require.Equal(t, want, stored(t, memory.InRoom(home.String())))
}

// stored returns all that a room remembers.
func stored(t testing.TB, room *matrix.Room) map[string]string {
	t.Helper()
	keys, err := room.Keys()
	require.NoError(t, err)
	values := make(map[string]string)
	for _, key := range keys {
		var value string
		ok, err := room.Get(key, &value)
		require.NoError(t, err)
		require.True(t, ok)
		values[key] = value
	}
	return values
}

// A handler that joe gave up waiting for keeps its room, and the handlers after
// it have theirs.
func TestInEventRoomOutlivesItsTimeout(t *testing.T) {
	account := rig.Register(t)
	home, slow, quick := account.NewRoom(t), account.NewRoom(t), account.NewRoom(t)
	bot := rig.StartBot(t, account.Config(home), joe.WithHandlerTimeout(2*time.Second))
	release, done := make(chan struct{}), make(chan error, 1)
	bot.Respond("slow", bot.Memory.InEventRoom(func(msg joe.Message) error {
		<-release
		done <- bot.Store.Set("who", "slow")
		return nil
	}))
	bot.Respond("quick", bot.Memory.InEventRoom(func(joe.Message) error { return bot.Store.Set("who", "quick") }))
	bot.Respond("plain", func(joe.Message) error { return bot.Store.Set("who", "home") })
	bot.Say(slow.String(), "slow") // returns once joe has given up
	bot.Say(quick.String(), "quick")
	bot.Say(slow.String(), "plain")
	close(release)
	require.NoError(t, <-done)
	for room, want := range map[id.RoomID]string{home: "home", slow: "slow", quick: "quick"} {
		eventually(t, func() bool { return account.Standing(t, room)[""] == `{"who":"`+want+`"}` }, "%s in its own room", want)
	}
}
