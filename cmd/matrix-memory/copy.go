package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/cmd/matrix-memory/internal/place"
)

func copyCommand() *cli.Command {
	return &cli.Command{
		Name:      "copy",
		Usage:     "set all keys of one place in another",
		ArgsUsage: "FROM TO",
		Description: "A place is one of\n\n" +
			"    ROOM          a name from the settings, an alias or a room ID; in another layout than\n" +
			"                  the settings' with ?single_state_key=true, false or a state key behind it\n" +
			"    bolt:FILE     what joe's memory for Bolt writes\n" +
			"    file:FILE     what joe's file memory writes\n" +
			"    redis:URL     what joe's memory for Redis writes, as redis://:password@localhost:6379/0,\n" +
			"                  with ?key=NAME behind it if the hash is not joe-bot\n" +
			"    journal:FILE  only FROM: what a bot's journal says that a room holds, with what is not\n" +
			"                  delivered; with ?room=ROOM behind it if that is not the default room\n\n" +
			"What is there already is not written, so to copy once more does nothing, or what a copy left that\n" +
			"was interrupted. Other keys of TO stay. A value that does not fit is named at the end, and the\n" +
			"others are set all the same.",
		Flags: []cli.Flag{dryRunFlag()},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			args, err := arguments(cmd, 2, 2)
			if err != nil {
				return err
			}
			if strings.HasPrefix(args[1], "journal:") {
				return usage("to copy to a journal is not possible: it is the bot's own; copy to the room")
			}
			held, err := readPlace(ctx, cmd, args[0])
			if err != nil {
				return err
			}
			// The first place is closed by now: both may have to use the same device's keys.
			return atPlace(ctx, cmd, args[1], purposeOf(cmd), func(to place.Place) error { return transfer(ctx, cmd, held, to) })
		},
	}
}

// readPlace returns what the place holds that an argument names.
func readPlace(ctx context.Context, cmd *cli.Command, named string) (held place.Contents, err error) {
	if file, ok := strings.CutPrefix(named, "journal:"); ok {
		return readJournal(ctx, cmd, file)
	}
	err = atPlace(ctx, cmd, named, reading, func(from place.Place) (err error) {
		held, err = from.Read(ctx)
		return err
	})
	return held, err
}

// atPlace opens the place that an argument names, and closes it again.
func atPlace(ctx context.Context, cmd *cli.Command, named string, p purpose, do func(place.Place) error) error {
	kind, rest, isKind := strings.Cut(named, ":")
	if !isKind {
		kind = "" // a room may be called so
	}
	switch kind {
	case "bolt":
		return do(place.Bolt{Path: rest})
	case "file":
		return do(place.File{Path: rest})
	case "redis", "rediss":
		redis, err := place.NewRedis(named)
		if err != nil {
			return usageError{err}
		}
		return do(redis)
	}
	name, layout, otherLayout := strings.Cut(named, "?single_state_key=")
	conf, err := settingsOf(cmd, name)
	if err != nil {
		return err
	}
	if otherLayout {
		conf.SingleStateKey = layoutOf(layout)
	}
	room, err := openRoom(ctx, cmd, conf, p)
	if err != nil {
		return fmt.Errorf("%s: %w", named, err)
	}
	defer room.Close()
	return do(room)
}

// layoutOf reads what may stand for single_state_key in the settings.
func layoutOf(text string) matrix.StateKey {
	switch text {
	case "true":
		return matrix.OneStateKey
	case "false":
		return matrix.PerKey
	}
	return matrix.StateKey(text)
}
