package matrix_test

import (
	"context"
	"fmt"

	"github.com/go-joe/joe"

	matrix "github.com/go-joe/matrix-memory"
)

// Watch tells what changes under keys with a prefix, from the call on, whoever changes it.
func ExampleRoom_Watch() {
	memory := matrix.New(exampleConfig())
	joe.New("example", quietly, memory)
	defer memory.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	ops := memory.InRoom("ops")
	changes := ops.Watch(ctx, "deploy.")
	if err := ops.Set("deploy.web", 3); err != nil {
		fmt.Println(err)
	}
	for change, err := range changes {
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%s is %s\n", change.Key, change.Value)
		break
	}
	// Output: deploy.web is 3
}

// History tells what a key was, from the room's own events, the latest first.
func ExampleRoom_History() {
	conf := exampleConfig()
	memory := matrix.New(conf)
	joe.New("example", quietly, memory)

	ops := memory.InRoom("ops")
	for version := range 3 {
		if err := ops.Set("deployed", version); err != nil {
			fmt.Println(err)
		}
	}
	if _, err := ops.Delete("deployed"); err != nil {
		fmt.Println(err)
	}
	if err := memory.Close(); err != nil { // which waits until all of it stands in the room
		fmt.Println(err)
	}

	memory = matrix.New(conf)
	joe.New("example", quietly, memory)
	defer memory.Close()
	for change, err := range memory.InRoom("ops").History(context.Background(), "deployed") {
		switch {
		case err != nil:
			fmt.Println(err)
		case change.Deleted:
			fmt.Println("deleted")
		default:
			fmt.Printf("set to %s\n", change.Value)
		}
	}
	// Output:
	// deleted
	// set to 2
	// set to 1
	// set to 0
}

// A handler hears when somebody else has changed a key: here another program with the same account, such
// as the operator's.
func ExampleChangeEvent() {
	conf := exampleConfig()
	memory := matrix.New(conf)
	bot := joe.New("example", quietly, memory)
	heard := make(chan string, 1)
	bot.Brain.RegisterHandler(func(evt matrix.ChangeEvent) {
		heard <- fmt.Sprintf("%s is %s now", evt.Key, evt.Value)
	})
	go bot.Brain.HandleEvents() // as bot.Run does, without the terminal
	defer bot.Brain.Shutdown(context.Background())

	operator := matrix.New(conf)
	if err := operator.Open(context.Background()); err != nil {
		panic(err)
	}
	if err := operator.Set("motd", []byte(`"back at noon"`)); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-heard)
	fmt.Println(operator.Close(), memory.Close())
	// Output:
	// motd is "back at noon" now
	// <nil> <nil>
}
