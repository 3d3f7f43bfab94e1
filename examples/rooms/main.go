// Rooms is a bot that remembers for each Matrix room what is said there.
//
//	go run ./examples/rooms
//
// It shows memory by room: the handlers in bot.go are those of any Joe bot and go
// on calling bot.Store; memory.InEventRoom is all that makes each room remember
// its own. The program needs nothing but Go. It starts a homeserver for itself
// (on first use it builds one, which takes some minutes), invites the bot to two
// rooms, has two people talk to it there, and prints what was said and
// the state in which each room keeps its memory. Then it stays up and says how
// to join in with any Matrix client; Ctrl-C ends it, and -once ends it at once.
//
// With your own homeserver, the same bot runs on the settings of a
// configuration.yaml, as LoadConfig reads it:
//
//	go run ./examples/rooms -config configuration.yaml
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/go-joe/joe"

	matrix "github.com/go-joe/matrix-memory"
)

// The exit codes, as a shell knows them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // by Ctrl-C, before all was up
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	exitCode := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(exitCode)
}

// run is the program, until ctx is done: the conversation goes to stdout, all
// else to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (exitCode int) {
	flags := flag.NewFlagSet("rooms", flag.ContinueOnError)
	flags.SetOutput(stderr)
	config := flags.String("config", "", "run the bot on the homeserver of this configuration.yaml; without it, the program starts its own")
	once := flags.Bool("once", false, "end when the conversation is over")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage // Parse has said what is wrong
	case flags.NArg() > 0 || *config != "" && *once:
		fmt.Fprintln(stderr, "rooms: there are no arguments, and -once can't go with -config")
		return exitUsage
	}

	var up bool // then Ctrl-C is how it ends, and what goes wrong is an error
	var err error
	if *config != "" {
		up, err = serve(ctx, *config, stdout)
	} else {
		up, err = show(ctx, *once, stdout, stderr)
	}
	switch {
	case err != nil && ctx.Err() != nil && !up:
		fmt.Fprintln(stderr, "interrupted")
		return exitInterrupted
	case err != nil:
		fmt.Fprintln(stderr, "rooms:", err)
		return exitFailed
	}
	return exitOK
}

// serve runs the bot on the user's own homeserver. It reports whether the bot was
// up, besides an error.
func serve(ctx context.Context, config string, stdout io.Writer) (up bool, err error) {
	conf, err := matrix.LoadConfig(config)
	if err != nil {
		return false, err
	}
	var ready atomic.Bool
	bot := newBot(ctx, conf)
	bot.Brain.RegisterHandler(func(joe.InitEvent) {
		ready.Store(true)
		fmt.Fprintln(stdout, `Invite the bot to some rooms and say "remember tea is green" or "what is tea" there. Ctrl-C ends it.`)
	})
	err = bot.Run()
	return ready.Load(), err
}
