package main

import (
	"context"
	"io"

	docs "github.com/urfave/cli-docs/v3"
	"github.com/urfave/cli/v3"
)

func manCommand() *cli.Command {
	return &cli.Command{
		Name:   "man",
		Usage:  "print the manual page, for man -l -",
		Hidden: true,
		Action: func(_ context.Context, cmd *cli.Command) error {
			page, err := docs.ToManWithSection(cmd.Root(), 1)
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.Root().Writer, page)
			return err
		},
	}
}
