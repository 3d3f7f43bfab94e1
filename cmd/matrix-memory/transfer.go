package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/go-joe/matrix-memory/cmd/matrix-memory/internal/place"
)

func dryRunFlag() cli.Flag {
	return &cli.BoolFlag{Name: "dry-run", Usage: "only print what would be set, a line for each key: new or changed; whether a value fits in a room is not checked", HideDefault: true}
}

// transfer sets in a place what another one holds, but for what is there already. With -dry-run it prints what it would set.
func transfer(ctx context.Context, cmd *cli.Command, from place.Contents, to place.Place) error {
	difference, err := place.Compare(ctx, from.Values, to)
	if err != nil {
		return err
	}
	unread := failures(from.Unreadable, "can't be read")
	due := slices.Concat(difference.New, difference.Changed)
	failed := make(map[string]error)
	if cmd.Bool("dry-run") {
		for _, key := range due {
			if err := to.Refuses(key); err != nil {
				failed[key] = err
			}
		}
		if err := preview(cmd.Root().Writer, difference, failed); err != nil {
			return err
		}
		say(cmd, "%s would be set, %d are there already; this was a dry run", count(len(due)-len(failed), "key"), difference.Same)
		return errors.Join(failures(failed, "could not be set"), unread)
	}
	values := make(map[string][]byte, len(due))
	for _, key := range due {
		values[key] = from.Values[key]
	}
	progress := newProgress(cmd.Root().ErrWriter, len(due))
	set := 0
	if len(values) > 0 { // else a file that is missing is not made
		err = to.Write(ctx, values, func(key string, err error) {
			if err != nil {
				failed[key] = err
				return
			}
			set++
			progress.tell(set)
		})
	}
	progress.end()
	switch {
	case err != nil: // others may have been on their way
		say(cmd, "%d of %s are known to be set, %d were there already; to do the same again goes on from there", set, count(len(due), "key"), difference.Same)
	case len(failed) > 0:
		say(cmd, "%d of %s are set, %d were there already", set, count(len(due), "key"), difference.Same)
	default:
		say(cmd, "%s set, %d were there already", count(set, "key"), difference.Same)
	}
	return errors.Join(err, failures(failed, "could not be set"), unread)
}

// preview prints what is to be set, but for what the place refuses.
func preview(out io.Writer, d place.Difference, refused map[string]error) error {
	kinds := make(map[string]string)
	for _, key := range d.New {
		kinds[key] = "new"
	}
	for _, key := range d.Changed {
		kinds[key] = "changed"
	}
	for _, key := range slices.Sorted(maps.Keys(kinds)) {
		if refused[key] != nil {
			continue
		}
		if _, err := fmt.Fprintf(out, "%-7s %s\n", kinds[key], onOneLine(key)); err != nil {
			return err
		}
	}
	return nil
}

// say says something that is no data.
func say(cmd *cli.Command, format string, args ...any) {
	fmt.Fprintf(cmd.Root().ErrWriter, "matrix-memory: "+format+"\n", args...)
}

// A progress says how far something has come that takes long: in a terminal on one line, else once in a while.
type progress struct {
	out      io.Writer
	all      int
	terminal bool
	told     time.Time
	open     bool // a line has no end so far
}

func newProgress(out io.Writer, all int) *progress {
	p := &progress{out: out, all: all, told: time.Now()}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// tell is told how many are done.
func (p *progress) tell(done int) {
	between := 5 * time.Second
	if p.terminal {
		between = 200 * time.Millisecond
	}
	if time.Since(p.told) < between {
		return
	}
	p.told = time.Now()
	if p.terminal {
		p.open = true
		fmt.Fprintf(p.out, "\r%d of %d keys", done, p.all)
	} else {
		fmt.Fprintf(p.out, "matrix-memory: %d of %d keys so far\n", done, p.all)
	}
}

// end ends the line.
func (p *progress) end() {
	if p.open {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
