package main

import (
	"context"

	"github.com/go-joe/joe"
	"go.uber.org/zap"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/adapter"
)

// newBot returns the bot.
func newBot(ctx context.Context, conf matrix.Config) *joe.Bot {
	memory := matrix.New(conf)
	bot := joe.New("rooms",
		joe.WithContext(ctx), joe.WithLogLevel(zap.WarnLevel),
		memory, adapter.New(memory),
	)

	bot.Respond("remember (.+) is (.+)", memory.InEventRoom(func(msg joe.Message) error {
		if err := bot.Store.Set(msg.Matches[0], msg.Matches[1]); err != nil {
			return err
		}
		return msg.RespondE("I will remember that *%s* is **%s**.", adapter.Escape(msg.Matches[0]), adapter.Escape(msg.Matches[1]))
	}))

	bot.Respond(`what is (.+?)\??`, memory.InEventRoom(func(msg joe.Message) error {
		var value string
		known, err := bot.Store.Get(msg.Matches[0], &value)
		switch {
		case err != nil:
			return err
		case !known:
			return msg.RespondE("Nobody told me in this room what *%s* is.", adapter.Escape(msg.Matches[0]))
		}
		return msg.RespondE("*%s* is **%s**.", adapter.Escape(msg.Matches[0]), adapter.Escape(value))
	}))
	return bot
}
