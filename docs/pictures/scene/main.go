// Scene is what the pictures of a terminal are taken of: a homeserver with a bot whose memory
// is in two rooms, of which one is in order. The bot's configuration.yaml is in the folder where
// it runs. Once all is there it says so, and it ends when its input does.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

const configuration = `connectors:
  matrix:
    homeserver: %s
    mxid: "%s"
    access_token: %s
    rooms:
      main: "#bots:localhost"
      ops: "#ops:localhost"
`

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute) // the first start builds the homeserver
	defer cancel()
	if err := play(ctx); err != nil {
		log.Fatalln("scene:", err)
	}
}

func play(ctx context.Context) (err error) {
	server, err := homeserver.Start(ctx, homeserver.Options{Dir: "homeserver", Progress: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	bot, err := login(ctx, server, "joe")
	if err != nil {
		return err
	}
	anna, err := login(ctx, server, "anna")
	if err != nil {
		return err
	}
	if _, err := makeRoom(ctx, bot, "bots", "The memory of a bot"); err != nil {
		return err
	}
	ops, err := makeRoom(ctx, anna, "ops", "Operations")
	if err != nil {
		return err
	}
	if err := setLevel(ctx, anna, ops, bot.UserID, 50); err != nil {
		return err
	}
	if _, err := bot.JoinRoomByID(ctx, ops); err != nil {
		return err
	}
	text := fmt.Sprintf(configuration, server.URL(), bot.UserID, bot.AccessToken)
	if err := os.WriteFile("configuration.yaml", []byte(text), 0o600); err != nil {
		return err
	}
	if err := remember(ctx); err != nil {
		return err
	}
	// What is out of order in the second room: the bot lost its power level.
	if err := setLevel(ctx, anna, ops, bot.UserID, 0); err != nil {
		return err
	}
	fmt.Println("all is there")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// remember fills the memory as a bot does.
func remember(ctx context.Context) error {
	conf, err := matrix.LoadConfig("configuration.yaml")
	if err != nil {
		return err
	}
	memory := matrix.New(conf)
	if err := memory.Open(ctx); err != nil {
		return err
	}
	for key, value := range map[string]string{"tea": `"green"`, "coffee": `"black"`, "birthdays": `{"anna":"04-12","tom":"11-30"}`} {
		if err := memory.Set(key, []byte(value)); err != nil {
			return errors.Join(err, memory.Close())
		}
	}
	return errors.Join(memory.InRoom("ops").Set("deploys", 3), memory.Close())
}

func login(ctx context.Context, server *homeserver.Server, name string) (*mautrix.Client, error) {
	account, err := server.Register(ctx, name, "a password")
	if err != nil {
		return nil, err
	}
	return mautrix.NewClient(server.URL(), id.UserID(account.UserID), account.AccessToken)
}

func makeRoom(ctx context.Context, by *mautrix.Client, alias, name string) (id.RoomID, error) {
	made, err := by.CreateRoom(ctx, &mautrix.ReqCreateRoom{Preset: "public_chat", Name: name, RoomAliasName: alias})
	if err != nil {
		return "", fmt.Errorf("make the room %s: %w", alias, err)
	}
	return made.RoomID, nil
}

// setLevel sets a user's power level in a room.
func setLevel(ctx context.Context, by *mautrix.Client, room id.RoomID, user id.UserID, level int) error {
	var levels event.PowerLevelsEventContent
	if err := by.StateEvent(ctx, room, event.StatePowerLevels, "", &levels); err != nil {
		return err
	}
	levels.SetUserLevel(user, level)
	_, err := by.SendStateEvent(ctx, room, event.StatePowerLevels, "", &levels)
	return err
}
