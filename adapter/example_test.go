package adapter_test

import (
	"context"
	"fmt"

	"github.com/go-joe/joe"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/adapter"
	"github.com/go-joe/matrix-memory/internal/rig"
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
		return msg.RespondE("*%s*", adapter.Escape(value))
	}))

	while(bot, func() { // bot.Run()
		room.say(room.alice, "remember tea is green")
		room.say(room.alice, "what is tea")
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
		room.say(room.alice, "ping")
		room.say(room.bob, "Marvin: ping")
		room.hear()
	})
	// Output:
	// alice: ping
	// bob: Marvin: ping
	// bot: **pong**
}

// What somebody said is said as it stands: it is not formatted, and mentions nobody.
func ExampleEscape() {
	fmt.Println(adapter.Escape("2*3*4 [boss](https://matrix.to/#/@boss:example.org)"))
	// Output: 2\*3\*4 \[boss\](https://matrix.to/#/@boss:example.org)
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
	id.RoomID
	alice, bob, bot rig.Account
	heard           int
}

// exampleRoom returns the settings of a new bot on the homeserver of the tests,
// and a room that it is in.
func exampleRoom() (matrix.Config, *sharedRoom) {
	t := rig.Example()
	server := rig.Shared(t)
	alice, bob, robot := server.Login(t, "alice"), server.Login(t, "bob"), rig.Register(t)
	if err := robot.SetDisplayName(t.Context(), "Marvin"); err != nil {
		panic(err)
	}
	return robot.Config(robot.NewRoom(t)), &sharedRoom{RoomID: robot.NewRoom(t, alice, bob), alice: alice, bob: bob, bot: robot}
}

// say has somebody say something.
func (r *sharedRoom) say(who rig.Account, text string) {
	must(who.SendText(context.Background(), r.RoomID, text))
	fmt.Printf("%s: %s\n", who.UserID.Localpart(), text)
}

// hear waits until the bot says something more.
func (r *sharedRoom) hear() {
	var said []string // newest first
	eventually(rig.Example(), func() bool {
		said = nil
		history := must(r.alice.Messages(context.Background(), r.RoomID, "", "", mautrix.DirectionBackward, nil, 100))
		for _, evt := range history.Chunk {
			if evt.Sender == r.bot.UserID && evt.Type.Type == event.EventMessage.Type {
				body, _ := evt.Content.Raw["body"].(string)
				said = append(said, body)
			}
		}
		return len(said) > r.heard
	}, "the bot says nothing more")
	r.heard++
	fmt.Println("bot:", said[len(said)-r.heard])
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
