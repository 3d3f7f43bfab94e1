//go:build goolm

package e2ee_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-joe/joe"
	"go.uber.org/zap"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
)

// exampleConfig returns the settings of a new bot whose default room is
// encrypted, on the homeserver of the tests.
func exampleConfig() matrix.Config {
	ctx := context.Background()
	made := must(server.Register(ctx, "u"+strings.ToLower(rand.Text()), "a password"))
	client := must(mautrix.NewClient(server.URL(), id.UserID(made.UserID), made.AccessToken))
	defer client.Client.CloseIdleConnections()
	stateKey := ""
	room := must(client.CreateRoom(ctx, &mautrix.ReqCreateRoom{InitialState: []*event.Event{{
		Type:     event.StateEncryption,
		StateKey: &stateKey,
		Content:  event.Content{Parsed: &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}},
	}}}))
	return matrix.Config{
		Homeserver:  server.URL(),
		UserID:      made.UserID,
		Password:    made.Password,
		DefaultRoom: room.RoomID.String(),
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// With encryption enabled nothing else changes for the bot. The first start makes
// the key store and, on a new account, the recovery key; keep that in a safe place.
func ExampleEnable() {
	folder := must(os.MkdirTemp("", "example"))
	defer os.RemoveAll(folder)
	conf := exampleConfig() // of LoadConfig, or written in Go
	conf.StorePath = filepath.Join(folder, "keys")
	conf.StoreKey = "a passphrase from a safe place"

	memory := matrix.New(conf, e2ee.Enable())
	bot := joe.New("example", joe.WithLogger(zap.NewNop()), memory)
	defer memory.Close() // not needed after bot.Run()

	if err := bot.Store.Set("tea", "green"); err != nil {
		fmt.Println(err)
	}
	var tea string
	known, err := bot.Store.Get("tea", &tea)
	fmt.Println(tea, known, err)

	// The homeserver has the key, and a reference to an event that it can't read.
	var state map[string]map[string]string
	eventType := event.Type{Type: "dev.opsdroid.database", Class: event.StateEventType}
	err = memory.Client().StateEvent(context.Background(), id.RoomID(conf.DefaultRoom), eventType, "", &state)
	for key, value := range state {
		for name := range value {
			fmt.Println(key, name, err)
		}
	}
	_, err = os.Stat(filepath.Join(conf.StorePath, "recovery_key"))
	fmt.Println("recovery key:", err)
	// Output:
	// green true <nil>
	// tea encrypted_val <nil>
	// recovery key: <nil>
}
