package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
)

func lsCommand() *cli.Command {
	return &cli.Command{
		Name:        "ls",
		Usage:       "list the keys, or those with a prefix",
		ArgsUsage:   "[PREFIX]",
		Description: "One key a line, sorted. A key that holds a line end or another control character stands in\nquotes, as in Go; with -json each is a JSON string.",
		Flags:       []cli.Flag{jsonFlag("print lines of JSON: {\"key\":…,\"value\":…}, or \"error\" where a value can't be read")},
		Action: inRoom(0, 1, reading, func(_ context.Context, cmd *cli.Command, memory *connection, args []string) error {
			keys, err := memory.keys(strings.Join(args, ""))
			if err != nil {
				return err
			}
			unreadable := make(map[string]error)
			for _, key := range keys {
				err := memory.list(cmd, key)
				switch {
				case err != nil && isAboutValue(err):
					unreadable[key] = err
				case err != nil:
					return err
				}
			}
			return failures(unreadable, "can't be read")
		}),
	}
}

// keys returns the room's keys with a prefix, sorted.
func (c *connection) keys(prefix string) ([]string, error) {
	keys, err := c.room.Keys()
	keys = slices.DeleteFunc(keys, func(key string) bool { return !strings.HasPrefix(key, prefix) })
	slices.Sort(keys)
	return keys, err
}

// list prints a key of ls.
func (c *connection) list(cmd *cli.Command, key string) error {
	if !cmd.Bool("json") {
		_, err := fmt.Fprintln(cmd.Root().Writer, onOneLine(key))
		return err
	}
	line := struct {
		Key   string          `json:"key"`
		Value json.RawMessage `json:"value,omitempty"`
		Error string          `json:"error,omitempty"`
	}{Key: key}
	var value []byte
	ok, err := c.room.Get(key, &value)
	switch {
	case err != nil && isAboutValue(err):
		line.Error = err.Error()
	case err != nil, !ok: // somebody has deleted it meanwhile
		return err
	default:
		line.Value = printable(value)
	}
	return cmp.Or(writeJSON(cmd, line), err)
}
