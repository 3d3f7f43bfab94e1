package adapter_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/adapter"
)

// A bot that remembers for each room what is said there.
func Example() {
	conf, room := exampleRoom() // of LoadConfig, or written in Go

	memory := matrix.New(conf)
	bot := joe.New("example", memory, adapter.New(memory))

	bot.Respond("remember (.+) is (.+)", memory.InEventRoom(func(msg joe.Message) error {
		return bot.Store.Set(msg.Matches[0], msg.Matches[1])
	}))
	bot.Respond("what is (.+)", memory.InEventRoom(func(msg joe.Message) error {
		var value string
		if _, err := bot.Store.Get(msg.Matches[0], &value); err != nil {
			return err
		}
		return msg.RespondE("*%s*", value)
	}))

	while(bot, func() { // bot.Run()
		room.say(alice, "remember tea is green")
		room.say(alice, "what is tea")
		room.hear()
	})
	// Output:
	// alice: remember tea is green
	// alice: what is tea
	// bot: *green*
}

// In a room with several people, the bot hears only what is meant for it.
func ExampleNew() {
	conf, room := exampleRoom()
	memory := matrix.New(conf)
	bot := joe.New("example", memory, adapter.New(memory,
		adapter.WithMentionsOnly(),
		adapter.WithInvitesFrom("example.org", "@alice:elsewhere.example"),
	))
	bot.Respond("ping", func(msg joe.Message) error { return msg.RespondE("**pong**") })

	while(bot, func() {
		room.say(alice, "ping")
		room.say(bob, "Marvin: ping")
		room.hear()
	})
	// Output:
	// alice: ping
	// bob: Marvin: ping
	// bot: **pong**
}

// while runs a bot while others do something.
func while(bot *joe.Bot, others func()) {
	ended := make(chan error)
	go func() { ended <- bot.Run() }()
	others()
	bot.Brain.Shutdown(context.Background())
	if err := <-ended; err != nil {
		panic(err)
	}
}

// A sharedRoom is a room of alice, bob and a bot that is called Marvin.
type sharedRoom struct {
	id    id.RoomID
	bot   id.UserID
	heard int
}

// exampleRoom returns the settings of a new bot on the homeserver of the tests,
// and a room that it is in.
func exampleRoom() (matrix.Config, *sharedRoom) {
	ctx := context.Background()
	robot := must(newUser(server, "u"+strings.ToLower(rand.Text())))
	if err := robot.SetDisplayName(ctx, "Marvin"); err != nil {
		panic(err)
	}
	home := must(robot.CreateRoom(ctx, &mautrix.ReqCreateRoom{Preset: "private_chat"}))
	shared := must(robot.CreateRoom(ctx, &mautrix.ReqCreateRoom{
		Preset: "private_chat", Invite: []id.UserID{alice.UserID, bob.UserID},
	}))
	must(alice.JoinRoomByID(ctx, shared.RoomID))
	must(bob.JoinRoomByID(ctx, shared.RoomID))
	conf := matrix.Config{Homeserver: server.URL(), AccessToken: robot.token, DefaultRoom: home.RoomID.String()}
	return conf, &sharedRoom{id: shared.RoomID, bot: robot.UserID}
}

// say has somebody say something.
func (r *sharedRoom) say(who *user, text string) {
	must(who.SendText(context.Background(), r.id, text))
	fmt.Printf("%s: %s\n", who.UserID.Localpart(), text)
}

// hear waits until the bot says something more.
func (r *sharedRoom) hear() {
	var said []string // newest first
	require.Eventually(panicking{}, func() bool {
		said = nil
		history := must(alice.Messages(context.Background(), r.id, "", "", mautrix.DirectionBackward, nil, 100))
		for _, evt := range history.Chunk {
			if evt.Sender == r.bot && evt.Type.Type == event.EventMessage.Type {
				body, _ := evt.Content.Raw["body"].(string)
				said = append(said, body)
			}
		}
		return len(said) > r.heard
	}, bound, 20*time.Millisecond)
	r.heard++
	fmt.Println("bot:", said[len(said)-r.heard])
}

// panicking is for checks where there is no test.
type panicking struct{}

func (panicking) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (panicking) FailNow()                          {}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
