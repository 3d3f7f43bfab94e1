package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"
)

func delCommand() *cli.Command {
	return &cli.Command{
		Name:        "del",
		Usage:       "delete keys",
		ArgsUsage:   "KEY…",
		Description: "Where the memory is one dictionary, all are deleted at once or none. Keys that are not there\nare no fault.",
		Action: func(ctx context.Context, cmd *cli.Command) error {
			keys, err := arguments(cmd, 1, -1)
			if err != nil {
				return err
			}
			memory, err := connect(ctx, cmd, writing)
			if err != nil {
				return err
			}
			defer memory.Close()
			n, err := memory.room.DeleteAll(keys...)
			if n < len(keys) && err == nil {
				fmt.Fprintf(cmd.Root().ErrWriter, "matrix-memory: %d of %d keys were there\n", n, len(keys))
			}
			return err
		},
	}
}
