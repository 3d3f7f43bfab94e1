package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	matrix "github.com/go-joe/matrix-memory"
)

func historyCommand() *cli.Command {
	return &cli.Command{
		Name:        "history",
		Usage:       "print what a key was: when, who, which event and which value, the latest change first",
		ArgsUsage:   "KEY",
		Description: "It comes from the room's own events, as far back as the homeserver gives them. Of encrypted values\nthat were deleted it is known only who set them, and when.",
		Flags: []cli.Flag{
			jsonFlag("print lines of JSON: {\"time\":…,\"sender\":…,\"event_id\":…,\"room\":…,\"key\":…,\"value\":…}; or \"deleted\", or \"error\""),
			&cli.StringFlag{Name: "revert", Usage: "do again what was done in `EVENT`: set the value that it set, or delete the key"},
		},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			args, err := arguments(cmd, 1, 1)
			if err != nil {
				return err
			}
			purpose := reading
			if cmd.IsSet("revert") {
				purpose = writing
			}
			memory, err := connect(ctx, cmd, purpose)
			if err != nil {
				return err
			}
			defer memory.Close()
			if purpose == writing {
				return memory.revert(ctx, args[0], cmd.String("revert"))
			}
			found := false
			for change, err := range memory.room.History(ctx, args[0]) {
				if change.Room == "" {
					return err
				}
				found = true
				if err := printChange(cmd, change, err, change.EventID); err != nil {
					return err
				}
			}
			if ctx.Err() == nil && !found {
				return fmt.Errorf("there never was a key %q in room %s, as far as the homeserver tells", args[0], memory.where())
			}
			return ctx.Err()
		},
	}
}

// revert does again what a change did.
func (c *connection) revert(ctx context.Context, key, eventID string) error {
	change, err := c.past(ctx, key, eventID)
	if err != nil {
		return err
	}
	if change.Deleted {
		_, err := c.room.Delete(key)
		return err
	}
	value, err := parse(change.Value)
	if err != nil {
		return err
	}
	return c.room.Set(key, value)
}

// past returns the change of a key that an event made.
func (c *connection) past(ctx context.Context, key, eventID string) (matrix.Change, error) {
	for change, err := range c.room.History(ctx, key) {
		if change.Room == "" || change.EventID == eventID {
			return change, err
		}
	}
	if ctx.Err() != nil {
		return matrix.Change{}, ctx.Err()
	}
	return matrix.Change{}, fmt.Errorf("no event %s has changed the key %q in room %s: history without -revert lists those that have", eventID, key, c.where())
}
