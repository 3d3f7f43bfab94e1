//go:build goolm

package e2ee_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-joe/joe"
	"go.uber.org/zap"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// exampleConfig returns the settings of a new bot whose default room is
// encrypted, on the homeserver of the tests.
func exampleConfig() matrix.Config {
	t := rig.Example()
	bot := rig.Register(t)
	return matrix.Config{
		Homeserver:  bot.HomeserverURL.String(),
		UserID:      bot.UserID.String(),
		Password:    bot.Password,
		DefaultRoom: bot.NewRoom(t, rig.Encrypted).String(),
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
	var state struct {
		Tea map[string]string // beside it stands when keys were changed
	}
	eventType := event.Type{Type: "dev.opsdroid.database", Class: event.StateEventType}
	err = memory.Client().StateEvent(context.Background(), id.RoomID(conf.DefaultRoom), eventType, "", &state)
	for name := range state.Tea {
		fmt.Println("tea", name, err)
	}
	_, err = os.Stat(filepath.Join(conf.StorePath, "recovery_key"))
	fmt.Println("recovery key:", err)
	// Output:
	// green true <nil>
	// tea encrypted_val <nil>
	// recovery key: <nil>
}
