package main

import (
	"context"

	"github.com/urfave/cli/v3"
)

func showCommand() *cli.Command {
	return &cli.Command{
		Name:  "show",
		Usage: "print the raw state events of the memory, as JSON lines",
		Action: func(ctx context.Context, cmd *cli.Command) error {
			return nil
		},
	}
}
