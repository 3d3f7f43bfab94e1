package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"
)

func getCommand() *cli.Command {
	return &cli.Command{
		Name:      "get",
		Usage:     "print the value of a key",
		ArgsUsage: "KEY",
		Flags:     []cli.Flag{rawFlag("print the bytes of the value, with no line end")},
		Action: inRoom(1, 1, reading, func(_ context.Context, cmd *cli.Command, memory *connection, args []string) error {
			var value []byte
			ok, err := memory.room.Get(args[0], &value)
			switch {
			case err != nil:
				return err
			case !ok:
				return fmt.Errorf("there is no key %q in room %s", args[0], memory.where())
			case cmd.Bool("raw"):
				_, err = cmd.Root().Writer.Write(value)
				return err
			}
			return writeJSON(cmd, printable(value))
		}),
	}
}
