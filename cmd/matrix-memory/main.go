// Matrix-memory looks at the memory of a Joe bot that lives in Matrix rooms, finds out what
// is wrong with it, backs it up and moves it. It reads the bot's own configuration.yaml.
//
//	matrix-memory -config configuration.yaml [-room ops] COMMAND
//
// Install it with
//
//	go install -tags goolm github.com/go-joe/matrix-memory/cmd/matrix-memory@latest
//
// Without the tag it has no encryption, and can't read encrypted values. The page
// docs/tool.md of the repository tells more.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/urfave/cli/v3"
)

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1   // it did not work, or what was asked for is not there
	exitUsage       = 2   // the command line is wrong
	exitInterrupted = 130 // by Ctrl-C, as shells have it
)

// Options have one dash, here and in the help. -v says more, and not the version.
func init() {
	cli.VersionFlag = &cli.BoolFlag{Name: "version", Usage: "print the version", HideDefault: true, Local: true}
	withTwo := cli.FlagStringer
	cli.FlagStringer = func(flag cli.Flag) string { return strings.ReplaceAll(withTwo(flag), "--", "-") }
}

func main() { os.Exit(run()) }

func run() int {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	signal.Ignore(syscall.SIGPIPE) // a write fails instead, and a device of the tool's own is removed
	context.AfterFunc(ctx, stop)   // a second Ctrl-C ends it at once
	err := newApp(os.Stdin, os.Stdout, os.Stderr).Run(ctx, os.Args)
	return report(ctx, os.Stderr, err)
}

// A usageError says what is wrong with a command line.
type usageError struct{ error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errSilent ends the program with exit code 1. What is to be said was said.
var errSilent = errors.New("")

// report says what went wrong, and returns the exit code.
func report(ctx context.Context, stderr io.Writer, err error) int {
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "matrix-memory: interrupted")
		return exitInterrupted
	case errors.Is(err, errSilent), errors.Is(err, syscall.EPIPE):
		return exitFailed
	}
	fmt.Fprintln(stderr, "matrix-memory:", err)
	if errors.As(err, new(usageError)) {
		fmt.Fprintln(stderr, "Try matrix-memory -help.")
		return exitUsage
	}
	return exitFailed
}

// newApp returns the tool: the options that all commands have, and the commands.
func newApp(stdin io.Reader, stdout, stderr io.Writer) *cli.Command {
	app := &cli.Command{
		Name:            "matrix-memory",
		Usage:           "look at, back up, move and mend the memory of a Joe bot in Matrix rooms",
		UsageText:       "matrix-memory [-config FILE] [-room ROOM] COMMAND",
		Description:     description,
		Version:         version(),
		HideHelpCommand: true, // it would be a command of each command, and hide a key of that name
		Reader:          stdin,
		Writer:          stdout,
		ErrWriter:       stderr,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Value: "configuration.yaml", Usage: "read the bot's settings from `FILE`"},
			&cli.StringFlag{Name: "room", Usage: "the `ROOM`: a name from the settings, an alias or a room ID", DefaultText: "the bot's default room"},
			&cli.BoolFlag{Name: "v", Usage: "say more of what is done, on standard error", HideDefault: true},
		},
		Commands: []*cli.Command{
			statusCommand(),
			lsCommand(),
			getCommand(),
			setCommand(),
			delCommand(),
			watchCommand(),
			historyCommand(),
			showCommand(),
			exportCommand(),
			importCommand(),
			copyCommand(),
			manCommand(),
		},
		EnableShellCompletion: true,
		ConfigureShellCompletionCommand: func(cmd *cli.Command) {
			cmd.Hidden, cmd.ArgsUsage, cmd.Usage = false, "SHELL", "print a completion script for bash, zsh, fish or pwsh"
		},
		ExitErrHandler: func(context.Context, *cli.Command, error) {}, // report does that
		Action: func(_ context.Context, cmd *cli.Command) error {
			if cmd.Args().Present() {
				return usage("there is no command %q", cmd.Args().First())
			}
			return usage("a command is missing")
		},
	}
	_ = app.Walk(func(cmd *cli.Command) error {
		cmd.OnUsageError = func(_ context.Context, _ *cli.Command, err error, _ bool) error { return usageError{err} }
		return nil
	})
	return app
}

// version returns the version of the tool, as the go command has noted it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return ""
}

const description = `Values are JSON. One that is not, as some programs store, stands as it does in the room:
{"dev.joe.bytes": "…"}, with its bytes in Base64; -raw gives and takes the bytes themselves.

Only set, del, import, copy and history -revert write; nothing else changes anything in a room,
or joins one. The tool may run while the bot does. It never changes the bot's journal.

Data goes to standard output, all else to standard error. The exit code is 0 if all went well,
1 if something failed or is not there, 2 if the command line is wrong, 130 after Ctrl-C.`

// arguments checks how many arguments a command has; most < 0: any number.
func arguments(cmd *cli.Command, least, most int) ([]string, error) {
	args := cmd.Args().Slice()
	if len(args) < least || most >= 0 && len(args) > most {
		return nil, usage("%s takes %s", cmd.Name, cmp.Or(cmd.ArgsUsage, "no arguments"))
	}
	return args, nil
}
