package main

import (
	"context"
	"strings"

	"github.com/urfave/cli/v3"
)

func watchCommand() *cli.Command {
	return &cli.Command{
		Name:        "watch",
		Usage:       "print each change, of all keys or those with a prefix, until Ctrl-C",
		ArgsUsage:   "[PREFIX]",
		Description: "A line for each change from now on: when, who, key and new value. Changes of one key that come\nquicker than they are printed may be one line.",
		Flags:       []cli.Flag{jsonFlag("print lines of JSON: {\"time\":…,\"sender\":…,\"event_id\":…,\"room\":…,\"key\":…,\"value\":…}; or \"deleted\", or \"error\"")},
		Action: inRoom(0, 1, reading, func(ctx context.Context, cmd *cli.Command, memory *connection, args []string) error {
			changes := memory.room.Watch(ctx, strings.Join(args, ""))
			say(cmd, "watching room %s, until Ctrl-C", memory.where())
			for change, err := range changes {
				if change.Room == "" {
					return err
				}
				if err := printChange(cmd, change, err, onOneLine(change.Key)); err != nil {
					return err
				}
			}
			return ctx.Err()
		}),
	}
}
