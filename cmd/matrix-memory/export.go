package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/go-joe/matrix-memory/cmd/matrix-memory/internal/archive"
	"github.com/go-joe/matrix-memory/cmd/matrix-memory/internal/place"
)

func exportCommand() *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "write all keys and values to a file, or to standard output",
		ArgsUsage: "[FILE]",
		Description: "Lines of JSON: a header, a line for each key, and a last line with their number and a digest, so\n" +
			"that import notices what is missing or damaged. Values of encrypted rooms stand there in the\n" +
			"clear: a new file is its owner's alone. A file that is there is replaced once all is read, and stays\n" +
			"as it is where some values can't be read.",
		Action: inRoom(0, 1, reading, func(ctx context.Context, cmd *cli.Command, memory *connection, args []string) error {
			held, err := roomPlace{memory}.Read(ctx)
			if err != nil {
				return err
			}
			incomplete := failures(held.Unreadable, "can't be read, so the export is not complete")
			file := strings.Join(args, "")
			if file == "-" {
				file = ""
			}
			if info, err := os.Stat(file); incomplete != nil && err == nil && info.Mode().IsRegular() { // and no pipe
				return fmt.Errorf("%s stays as it is: give a new name for what can be read; %w", file, incomplete)
			}
			text, err := archive.Encode(memory.where(), time.Now(), held)
			if err != nil {
				return err
			}
			if file == "" {
				_, err = cmd.Root().Writer.Write(text)
			} else if err = place.Replace(file, text); err == nil {
				say(cmd, "%s exported", count(len(held.Values), "key"))
			}
			return errors.Join(err, incomplete)
		}),
	}
}
