package main

import (
	"context"

	"github.com/urfave/cli/v3"
)

func delCommand() *cli.Command {
	return &cli.Command{
		Name:        "del",
		Usage:       "delete keys",
		ArgsUsage:   "KEY…",
		Description: "Where the memory is one dictionary, all are deleted at once or none. Keys that are not there\nare no fault.",
		Action: inRoom(1, -1, writing, func(_ context.Context, cmd *cli.Command, memory *connection, keys []string) error {
			n, err := memory.room.DeleteAll(keys...)
			if n < len(keys) && err == nil {
				say(cmd, "%d of %d keys were there", n, len(keys))
			}
			return err
		}),
	}
}
