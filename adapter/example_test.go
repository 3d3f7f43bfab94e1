package adapter_test

import (
	"fmt"
	"log"

	"github.com/go-joe/joe"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/adapter"
)

// A bot that remembers for each room what is said there, and greets who joins.
func Example() {
	conf, err := matrix.LoadConfig("configuration.yaml")
	if err != nil {
		log.Fatal(err)
	}
	memory := matrix.New(conf)
	bot := joe.New("example", memory, adapter.New(memory))

	bot.Respond("remember (.+) is (.+)", memory.InEventRoom(func(msg joe.Message) error {
		return bot.Store.Set(msg.Matches[0], msg.Matches[1])
	}))
	bot.Brain.RegisterHandler(func(evt adapter.JoinEvent) error {
		return bot.Adapter.Send(fmt.Sprintf("Welcome, %s!", evt.Name), evt.Channel)
	})

	if err := bot.Run(); err != nil {
		log.Fatal(err)
	}
}

func ExampleNew() {
	memory := matrix.New(matrix.Config{Homeserver: "https://matrix.example.org", UserID: "@bot:example.org", Password: "…"})
	bot := joe.New("example", memory, adapter.New(memory,
		adapter.WithMentionsOnly(),
		adapter.WithInvitesFrom("example.org", "@alice:elsewhere.example"),
	))
	bot.Respond("ping", func(msg joe.Message) error { return msg.RespondE("**pong**") })
	if err := bot.Run(); err != nil {
		log.Fatal(err)
	}
}
