package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sort"
	"strings"

	"github.com/go-joe/joe"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
)

const help = `Tell me: remember tea is green
Ask me:  what is tea
And:     forget tea, show keys, show room, quit`

// chat runs the bot until the context is done or the input ends. What sets up more of it may
// be nil. It reports whether the bot ran at all.
func chat(ctx context.Context, conf matrix.Config, stdin io.Reader, stdout, stderr io.Writer, setUp func(*joe.Bot, *matrix.Memory)) (chatted bool, err error) {
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	memory := matrix.New(conf)
	defer memory.Close() // joe closes it, unless the bot could not start

	bot := joe.New("remember",
		joe.WithContext(ctx), // first, as modules are given the context that is set before them
		joe.WithLogger(logger(stderr)),
		terminal(stdin, stdout),
		memory, // this line puts bot.Store into a Matrix room
	)
	if setUp != nil {
		setUp(bot, memory)
	}

	bot.Respond(`remember (.+?) is (.+)`, func(msg joe.Message) error {
		what, value := msg.Matches[0], msg.Matches[1]
		if err := bot.Store.Set(what, value); err != nil {
			return sorry(msg, err)
		}
		return msg.RespondE("I'll remember that " + what + " is " + value + ".")
	})

	bot.Respond(`what is (.+?)\??`, func(msg joe.Message) error {
		var value interface{}
		switch known, err := bot.Store.Get(msg.Matches[0], &value); {
		case err != nil:
			return sorry(msg, err)
		case !known:
			return msg.RespondE("I don't know what " + msg.Matches[0] + " is.")
		}
		return msg.RespondE("%s is %v.", msg.Matches[0], value)
	})

	bot.Respond(`forget (.+)`, func(msg joe.Message) error {
		switch known, err := bot.Store.Delete(msg.Matches[0]); {
		case err != nil:
			return sorry(msg, err)
		case !known:
			return msg.RespondE("I never knew what " + msg.Matches[0] + " is.")
		}
		return msg.RespondE("I no longer know what " + msg.Matches[0] + " is.")
	})

	bot.Respond(`show keys`, func(msg joe.Message) error {
		switch keys, err := bot.Store.Keys(); {
		case err != nil:
			return sorry(msg, err)
		case len(keys) == 0:
			return msg.RespondE("I remember nothing.")
		default:
			return msg.RespondE(strings.Join(keys, "\n"))
		}
	})

	bot.Respond(`show room`, func(msg joe.Message) error {
		events, err := roomState(msg.Context, memory.Client(), conf)
		if err != nil {
			return sorry(msg, err)
		}
		return msg.RespondE(strings.Join(events, "\n"))
	})

	bot.Respond(quitLine, func(joe.Message) error { quit(); return nil })

	bot.RespondRegex(`\S`, func(msg joe.Message) error { return msg.RespondE(help) })

	if err := bot.Run(); err != nil {
		return false, err
	}
	return true, nil
}

// sorry tells the user what went wrong.
func sorry(msg joe.Message, err error) error {
	return msg.RespondE("Sorry, that did not work. " + err.Error())
}

// roomState returns the state events of the memory's room as the homeserver has
// them, a line each, and those that are not Matrix's own last.
func roomState(ctx context.Context, client *mautrix.Client, conf matrix.Config) ([]string, error) {
	room := cmp.Or(conf.DefaultRoom, "main")
	if named, ok := conf.Rooms[room]; ok {
		room = named
	}
	if strings.HasPrefix(room, "#") {
		resolved, err := client.ResolveAlias(ctx, id.RoomAlias(room))
		if err != nil {
			return nil, err
		}
		room = resolved.RoomID.String()
	}
	var events []json.RawMessage
	url := client.BuildClientURL("v3", "rooms", room, "state")
	if _, err := client.MakeRequest(ctx, http.MethodGet, url, nil, &events); err != nil {
		return nil, err
	}
	lines := make([]string, len(events))
	ofMatrix := make(map[string]bool)
	for i, raw := range events {
		var line bytes.Buffer
		var event struct{ Type string }
		if err := json.Compact(&line, raw); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &event); err != nil {
			return nil, err
		}
		lines[i] = line.String()
		ofMatrix[lines[i]] = strings.HasPrefix(event.Type, "m.")
	}
	sort.SliceStable(lines, func(i, j int) bool { return ofMatrix[lines[i]] && !ofMatrix[lines[j]] })
	return lines, nil
}

// logger writes what the user should know of, and nothing else, as plain text.
func logger(stderr io.Writer) *zap.Logger {
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{
		MessageKey:     "message",
		LevelKey:       "level",
		EncodeLevel:    zapcore.CapitalLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder,
	})
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(stderr)), zapcore.WarnLevel))
}
