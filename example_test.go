package matrix_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/go-joe/joe"
	"github.com/sirupsen/logrus"
	"go.uber.org/zap"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// exampleConfig returns the settings of a new bot with two rooms, "main" and
// "ops", on the homeserver of the tests.
func exampleConfig() matrix.Config {
	t := rig.Example()
	bot := rig.Register(t)
	rooms := map[string]string{"main": bot.NewRoom(t).String(), "ops": bot.NewRoom(t).String()}
	return matrix.Config{Homeserver: bot.HomeserverURL.String(), UserID: bot.UserID.String(), Password: bot.Password, Rooms: rooms}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// quietly keeps a bot's log out of the examples' output.
var quietly = joe.WithLogger(zap.NewNop())

// A bot's Store lives in a Matrix room as soon as the memory is among the bot's
// modules. The memory is opened by joe.New, and closed by Bot.Run when it ends.
func ExampleNew() {
	conf := exampleConfig() // of LoadConfig, or written in Go

	memory := matrix.New(conf)
	bot := joe.New("example", quietly, memory)
	defer memory.Close() // not needed after bot.Run()

	if err := bot.Store.Set("tea", "green"); err != nil {
		fmt.Println(err)
	}
	var tea string
	known, err := bot.Store.Get("tea", &tea)
	fmt.Println(tea, known, err)
	// Output: green true <nil>
}

// Who moves from another memory takes the data along like this.
func ExampleNew_moving() {
	old := joe.New("old", quietly) // with redis.Memory, bolt.Memory, file.Memory, …
	memory := matrix.New(exampleConfig())
	bot := joe.New("new", quietly, memory)
	defer memory.Close()
	if err := old.Store.Set("tea", []string{"green", "black"}); err != nil {
		panic(err)
	}

	move := func() error {
		keys, err := old.Store.Keys()
		if err != nil {
			return err
		}
		for _, key := range keys {
			var value json.RawMessage
			if _, err := old.Store.Get(key, &value); err != nil {
				return err
			}
			if err := bot.Store.Set(key, value); err != nil {
				return err
			}
		}
		return nil
	}
	fmt.Println(move())

	var tea []string
	known, err := bot.Store.Get("tea", &tea)
	fmt.Println(tea, known, err)
	// Output:
	// <nil>
	// [green black] true <nil>
}

// A configuration.yaml of opsdroid's is read as it is.
func ExampleLoadConfig() {
	dir := must(os.MkdirTemp("", "example"))
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "configuration.yaml")
	err := os.WriteFile(file, []byte(`
connectors:
  matrix:
    homeserver: https://matrix.example.org
    mxid: "@bot:example.org"
    password: $EXAMPLE_PASSWORD
    rooms:
      main: "#bots:example.org"
databases:
  matrix:
    single_state_key: false
`), 0o600)
	if err != nil {
		panic(err)
	}
	os.Setenv("EXAMPLE_PASSWORD", "open sesame")

	conf, err := matrix.LoadConfig(file)
	fmt.Println(conf.UserID, conf.Rooms, conf.SingleStateKey == matrix.PerKey, err)
	// Output: @bot:example.org map[main:#bots:example.org] true <nil>
}

// A memory also works without a bot.
func ExampleMemory() {
	memory := matrix.New(exampleConfig())
	if err := memory.Open(context.Background()); err != nil {
		panic(err)
	}
	defer memory.Close()

	fmt.Println(memory.Set("tea", []byte(`{"kind": "green"}`)))
	value, known, err := memory.Get("tea")
	fmt.Println(string(value), known, err)
	keys, err := memory.Keys()
	fmt.Println(keys, err)
	was, err := memory.Delete("tea")
	fmt.Println(was, err)
	// Output:
	// <nil>
	// {"kind":"green"} true <nil>
	// [tea] <nil>
	// true <nil>
}

// Where the memory stands is up to SingleStateKey: here, each key has a state
// event of its own, which any Matrix client can look at.
func ExampleStateKey() {
	conf := exampleConfig()
	conf.SingleStateKey = matrix.PerKey
	memory := matrix.New(conf)
	if err := memory.Open(context.Background()); err != nil {
		panic(err)
	}
	defer memory.Close()

	if err := memory.Set("tea", []byte(`"green"`)); err != nil {
		panic(err)
	}
	var content map[string]string
	eventType := event.Type{Type: "dev.opsdroid.database", Class: event.StateEventType}
	err := memory.Client().StateEvent(context.Background(), id.RoomID(conf.Rooms["main"]), eventType, "tea", &content)
	fmt.Println(content, err)
	// Output: map[tea:green] <nil>
}

// What a memory could not do is told apart by errors.Is; the homeserver's own
// answer is reached by errors.As.
func ExampleError() {
	memory := matrix.New(exampleConfig())
	if err := memory.Open(context.Background()); err != nil {
		panic(err)
	}
	defer memory.Close()

	err := memory.Set("tea", make([]byte, 100_000))
	fmt.Println(errors.Is(err, matrix.ErrTooLarge))

	err = memory.InRoom("#nowhere:localhost").Set("tea", "green")
	fmt.Println(errors.Is(err, matrix.ErrUnknownRoom))
	var failure *matrix.Error
	if errors.As(err, &failure) {
		fmt.Println(failure.Op, failure.Key, failure.Room)
	}
	var answer mautrix.RespError
	if errors.As(err, &answer) {
		fmt.Println(answer.ErrCode)
	}
	// Output:
	// true
	// true
	// set tea #nowhere:localhost
	// M_NOT_FOUND
}

// Without WithLogger, the memory logs to the bot's own log.
func ExampleWithLogger() {
	logger := logrus.New()
	logger.SetLevel(logrus.ErrorLevel)
	memory := matrix.New(exampleConfig(), matrix.WithLogger(logger))
	fmt.Println(memory.Open(context.Background()))
	fmt.Println(memory.Close())
	// Output:
	// <nil>
	// <nil>
}

// A program that reaches the network by a proxy, or traces its requests, has the
// memory use its own http.Client.
func ExampleWithHTTPClient() {
	own := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment}}
	memory := matrix.New(exampleConfig(), matrix.WithHTTPClient(own))
	fmt.Println(memory.Open(context.Background()))
	fmt.Println(memory.Close())
	own.CloseIdleConnections()
	// Output:
	// <nil>
	// <nil>
}

// A program that has a Matrix client already shares it with the memory.
func ExampleWithClient() {
	conf := exampleConfig()
	ctx, stop := context.WithCancel(context.Background())
	client := must(mautrix.NewClient(conf.Homeserver, "", ""))
	must(client.Login(ctx, &mautrix.ReqLogin{
		Type:             mautrix.AuthTypePassword,
		Identifier:       mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: conf.UserID},
		Password:         conf.Password,
		StoreCredentials: true,
	}))

	memory := matrix.New(matrix.Config{Rooms: conf.Rooms}, matrix.WithClient(client))
	if err := memory.Open(ctx); err != nil { // before the sync, so that the memory misses nothing
		panic(err)
	}
	synced := make(chan error)
	go func() { synced <- client.SyncWithContext(ctx) }()

	fmt.Println(memory.Set("tea", []byte(`"green"`)))

	fmt.Println(memory.Close())
	stop()
	fmt.Println(<-synced) // the client was the program's own, and still ran
	client.Client.CloseIdleConnections()
	// Output:
	// <nil>
	// <nil>
	// context canceled
}

// The client of the memory's connection is there for what else the program has
// to do on Matrix.
func ExampleMemory_Client() {
	conf := exampleConfig()
	memory := matrix.New(conf)
	if err := memory.Open(context.Background()); err != nil {
		panic(err)
	}
	defer memory.Close()

	_, err := memory.Client().SendNotice(context.Background(), id.RoomID(conf.Rooms["ops"]), "I'm back.")
	fmt.Println(err)
	// Output: <nil>
}

// An encoder makes bytes of values, for bot.Store and for Room handles alike.
type gobEncoder struct{}

func (gobEncoder) Encode(value interface{}) ([]byte, error) {
	var data bytes.Buffer
	err := gob.NewEncoder(&data).Encode(value)
	return data.Bytes(), err
}

func (gobEncoder) Decode(data []byte, target interface{}) error {
	return gob.NewDecoder(bytes.NewReader(data)).Decode(target)
}

// What is not JSON is kept byte for byte.
func ExampleWithEncoder() {
	memory := matrix.New(exampleConfig(), matrix.WithEncoder(gobEncoder{}))
	bot := joe.New("example", quietly, memory)
	defer memory.Close()

	if err := bot.Store.Set("tea", complex(1, 2)); err != nil {
		fmt.Println(err)
	}
	var tea complex128
	known, err := bot.Store.Get("tea", &tea)
	fmt.Println(tea, known, err)
	// Output: (1+2i) true <nil>
}

// With a journal, a change is acknowledged once it is on disk, and delivered behind.
func ExampleMemory_Pending() {
	folder, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)
	conf := exampleConfig()
	conf.Journal = filepath.Join(folder, "memory.db")
	memory := matrix.New(conf)
	if err := memory.Open(context.Background()); err != nil {
		panic(err)
	}
	defer memory.Close()

	fmt.Println(memory.Set("tea", []byte(`{"kind": "green"}`)))
	fmt.Println(memory.Flush(context.Background()))
	if waiting := memory.Pending(); waiting.Changes > 0 {
		fmt.Printf("%d changes wait, %d of them were refused, the oldest since %s\n", waiting.Changes, waiting.Refused, waiting.Since)
	}
	// Output:
	// <nil>
	// <nil>
}
