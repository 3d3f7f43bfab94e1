package main

import (
	"context"
	_ "embed"
	"io"

	docs "github.com/urfave/cli-docs/v3"
	"github.com/urfave/cli/v3"
)

//go:embed man.md.gotmpl
var manTemplate string

func manCommand() *cli.Command {
	return &cli.Command{
		Name:        "man",
		Usage:       "print the manual page",
		Description: "To read it: matrix-memory man | man -l -",
		Action: func(_ context.Context, cmd *cli.Command) error {
			if _, err := arguments(cmd, 0, 0); err != nil {
				return err
			}
			page, err := manual(cmd.Root())
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.Root().Writer, page)
			return err
		},
	}
}

// manual returns the manual page. The library's own template has neither the commands'
// descriptions nor what arguments they take.
func manual(app *cli.Command) (string, error) {
	docs.MarkdownDocTemplate = manTemplate
	return docs.ToManWithSection(app, 1)
}
