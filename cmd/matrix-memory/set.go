package main

import (
	"context"

	"github.com/urfave/cli/v3"
)

func setCommand() *cli.Command {
	return &cli.Command{
		Name:        "set",
		Usage:       "set a key to a value",
		ArgsUsage:   "KEY VALUE",
		Description: "VALUE is JSON, so that a text has quotes: set greeting '\"hello\"'. With - it is read from\nstandard input.",
		Flags:       []cli.Flag{rawFlag("VALUE is bytes, whatever they are")},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			args, err := arguments(cmd, 2, 2)
			if err != nil {
				return err
			}
			value, err := argument(ctx, cmd, args[1])
			if err == nil && !cmd.Bool("raw") {
				value, err = parse(value)
			}
			if err != nil {
				return err
			}
			memory, err := connect(ctx, cmd, writing)
			if err != nil {
				return err
			}
			defer memory.Close()
			return memory.room.Set(args[0], value)
		},
	}
}
