package main

import (
	"context"

	"github.com/urfave/cli/v3"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "look whether all is well, and say what to do where it is not",
		Action: func(ctx context.Context, cmd *cli.Command) error {
			return nil
		},
	}
}
