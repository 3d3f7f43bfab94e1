package main

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/go-joe/matrix-memory/cmd/matrix-memory/internal/archive"
	"github.com/go-joe/matrix-memory/cmd/matrix-memory/internal/place"
)

func importCommand() *cli.Command {
	return &cli.Command{
		Name:      "import",
		Usage:     "set all keys of an export",
		ArgsUsage: "FILE",
		Description: "All of FILE, or standard input for -, is read and checked before anything is set. What is there\n" +
			"already is not written, so to import once more does nothing, or what an import left that was\n" +
			"interrupted. Keys that are not in FILE stay. A value that does not fit is named at the end, and\n" +
			"the others are set all the same.",
		Flags: []cli.Flag{dryRunFlag()},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			args, err := arguments(cmd, 1, 1)
			if err != nil {
				return err
			}
			from, err := readExport(ctx, cmd, args[0])
			if err != nil {
				return err
			}
			conf, err := settings(cmd)
			if err != nil {
				return err
			}
			room, err := openRoom(ctx, cmd, conf, purposeOf(cmd))
			if err != nil {
				return err
			}
			defer room.Close()
			return transfer(ctx, cmd, from, room)
		},
	}
}

// purposeOf says what the memory is for that is to be transferred to.
func purposeOf(cmd *cli.Command) purpose { return purpose(!cmd.Bool("dry-run")) }

// readExport reads an export that an argument names.
func readExport(ctx context.Context, cmd *cli.Command, named string) (held place.Contents, err error) {
	called, text := named, []byte(nil)
	if named == "-" {
		called = "standard input"
		text, err = argument(ctx, cmd, named)
	} else {
		text, err = os.ReadFile(named)
	}
	if err != nil {
		return held, err
	}
	if held, err = archive.Decode(bytes.NewReader(text)); err != nil {
		return held, fmt.Errorf("%s: %w; nothing was set", called, err)
	}
	return held, nil
}
