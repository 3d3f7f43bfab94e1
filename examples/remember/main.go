// Remember is a bot that remembers what you tell it, in the terminal.
//
//	go run ./examples/remember
//
// It shows that a bot's Store can live in a Matrix room without the bot
// noticing: the handlers in chat.go are those of any Joe bot, and the memory is
// one line in joe.New. The program needs nothing but Go. It starts a homeserver
// for itself (on first use it builds one, which takes some minutes), makes an
// account and a room there, and chats:
//
//	remember tea is green
//	what is tea
//	forget tea
//	show keys
//	show room       prints the room's state events, where the memory is
//	quit            as do Ctrl-D and Ctrl-C
//
// Start it again, and it still knows. Input may be piped, too:
//
//	echo "what is tea" | go run ./examples/remember
//
// With your own homeserver, the same program runs on the settings of a
// configuration.yaml, as LoadConfig reads it:
//
//	go run ./examples/remember -config configuration.yaml
//
// What a journal is good for is shown by
//
//	go run ./examples/remember -offline
//
// It chats by itself: it tells the bot something, stops the homeserver, goes on telling and
// asking as if nothing were wrong, starts the homeserver again, and shows the room, which
// has all of it. What it could not deliver when it was ended meanwhile, the next -offline does.
//
// The flag -fresh starts with a new room, and -data names another folder for the
// program's own homeserver.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/go-joe/joe"

	matrix "github.com/go-joe/matrix-memory"
)

// The exit codes, as a shell knows them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // by Ctrl-C, before there was a chat to end
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run is the program: the chat goes to stdout, all else to stderr.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) (exitCode int) {
	opts, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage // parse has said what is wrong
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	chatted, err := opts.run(ctx, stdin, stdout, stderr)
	switch {
	case err != nil && ctx.Err() != nil && !chatted:
		fmt.Fprintln(stderr, "interrupted")
		return exitInterrupted
	case err != nil:
		fmt.Fprintln(stderr, "remember:", err)
		return exitFailed
	}
	return exitOK
}

type options struct {
	config  string // the user's configuration.yaml, or "" for a homeserver of our own
	data    string // the folder of that
	fresh   bool
	offline bool // chat by itself, in part without a homeserver
}

func parse(args []string, stderr io.Writer) (options, error) {
	var opts options
	flags := flag.NewFlagSet("remember", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&opts.config, "config", "", "use the homeserver of this configuration.yaml; without it, the program starts its own")
	flags.StringVar(&opts.data, "data", "", "the `folder` where the program's own homeserver keeps its data (default: remember, in matrix-memory in your configuration folder)")
	flags.BoolVar(&opts.fresh, "fresh", false, "start with a new room, which remembers nothing; the old one stays in the data folder")
	flags.BoolVar(&opts.offline, "offline", false, "chat by itself, and stop the homeserver meanwhile; the bot keeps a journal in the data folder")
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	var err error
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q; what the bot is to be told goes to its input", flags.Arg(0))
	case opts.config != "" && (opts.fresh || opts.offline || opts.data != ""):
		err = errors.New("-fresh, -offline and -data are about the program's own homeserver; they can't go with -config")
	case opts.config == "" && opts.data == "":
		opts.data, err = defaultData()
	}
	if err != nil {
		fmt.Fprintln(stderr, "remember:", err)
	}
	return opts, err
}

func defaultData() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("there is no folder to keep data in (%w); name one with -data", err)
	}
	return filepath.Join(dir, "matrix-memory", "remember"), nil
}

// run reports whether the chat took place, besides an error.
func (opts options) run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) (chatted bool, err error) {
	var conf matrix.Config
	var setUp func(*joe.Bot, *matrix.Memory)
	if opts.config != "" {
		if conf, err = matrix.LoadConfig(opts.config); err != nil {
			return false, err
		}
	} else {
		home, startErr := startHome(ctx, opts.data, opts.fresh, stderr)
		if startErr != nil {
			return false, startErr
		}
		defer func() { err = errors.Join(err, home.server.Stop()) }()
		if opts.offline {
			home.conf.Journal = journalIn(opts.data)
			stdin, setUp = home.offline(stdout)
		}
		conf = home.conf
	}
	return chat(ctx, conf, stdin, stdout, stderr, setUp)
}
