package matrix_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-joe/joe"

	matrix "github.com/go-joe/matrix-memory"
)

// InRoom is the memory of another room that the bot is in: a name of the
// configuration, an alias or a room ID.
func ExampleMemory_InRoom() {
	memory := matrix.New(exampleConfig())
	bot := joe.New("example", quietly, memory)
	defer memory.Close()

	ops := memory.InRoom("ops")
	if err := ops.Set("deploys", 3); err != nil {
		fmt.Println(err)
	}
	var deploys int
	known, err := ops.Get("deploys", &deploys)
	fmt.Println(deploys, known, err)

	known, err = bot.Store.Get("deploys", nil) // the default room knows nothing of it
	fmt.Println(known, err)
	// Output:
	// 3 true <nil>
	// false <nil>
}

// In a handler that is wrapped in InEventRoom, bot.Store is the memory of the
// room that the message came from.
func ExampleMemory_InEventRoom() {
	memory := matrix.New(exampleConfig())
	bot := joe.New("example", quietly, memory)
	defer memory.Close()

	remember := memory.InEventRoom(func(msg joe.Message) error {
		return bot.Store.Set(msg.Matches[0], msg.Matches[1])
	})
	bot.Respond("remember (.+) is (.+)", remember)

	// This is what happens when somebody says "remember tea is green" in the room "ops":
	err := remember(joe.Message{Channel: "ops", Matches: []string{"tea", "green"}})
	fmt.Println(err)

	known, err := memory.InRoom("ops").Get("tea", nil)
	fmt.Println(known, err)
	known, err = bot.Store.Get("tea", nil)
	fmt.Println(known, err)
	// Output:
	// <nil>
	// true <nil>
	// false <nil>
}

// The binding of InEventRoom belongs to the goroutine that runs the handler. What
// a handler starts in another goroutine says by InRoom which room it means.
func ExampleMemory_InEventRoom_goroutine() {
	memory := matrix.New(exampleConfig())
	bot := joe.New("example", quietly, memory)
	defer memory.Close()

	done := make(chan error)
	count := memory.InEventRoom(func(msg joe.Message) error {
		room := memory.InRoom(msg.Channel)
		go func() {
			// bot.Store would be the default room's memory here.
			done <- room.Set("counted", true)
		}()
		return nil
	})
	bot.Respond("count", count)

	fmt.Println(count(joe.Message{Channel: "ops"}), <-done)
	known, err := memory.InRoom("ops").Get("counted", nil)
	fmt.Println(known, err)
	// Output:
	// <nil> <nil>
	// true <nil>
}

// A Room has the methods of bot.Store.
func ExampleRoom() {
	memory := matrix.New(exampleConfig())
	if err := memory.Open(context.Background()); err != nil {
		panic(err)
	}
	defer memory.Close()

	ops := memory.InRoom("ops")
	for host, port := range map[string]int{"web": 443, "mail": 25} {
		if err := ops.Set(host, port); err != nil {
			fmt.Println(err)
		}
	}
	var port int
	known, err := ops.Get("web", &port)
	fmt.Println(port, known, err)
	keys, err := ops.Keys()
	slices.Sort(keys)
	fmt.Println(keys, err)
	was, err := ops.Delete("mail")
	fmt.Println(was, err)
	// Output:
	// 443 true <nil>
	// [mail web] <nil>
	// true <nil>
}

// DeleteAll removes several keys, in one request where the memory is one
// dictionary, and says how many were there.
func ExampleRoom_DeleteAll() {
	memory := matrix.New(exampleConfig())
	if err := memory.Open(context.Background()); err != nil {
		panic(err)
	}
	defer memory.Close()

	ops := memory.InRoom("ops")
	for _, key := range []string{"a", "b", "c"} {
		if err := ops.Set(key, true); err != nil {
			fmt.Println(err)
		}
	}
	n, err := ops.DeleteAll("a", "b", "z")
	fmt.Println(n, err)
	// Output: 2 <nil>
}

// WithContext bounds what a handler waits for, more tightly than the memory's timeout.
func ExampleRoom_WithContext() {
	memory := matrix.New(exampleConfig())
	joe.New("example", quietly, memory)
	defer memory.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := memory.InRoom("ops").WithContext(ctx).Set("deploys", 3)
	switch {
	case errors.Is(err, matrix.ErrUnknownOutcome):
		fmt.Println("it was sent, and no answer came in time")
	case errors.Is(err, context.DeadlineExceeded):
		fmt.Println("it was not sent in time")
	default:
		fmt.Println(err)
	}
	// Output: <nil>
}
