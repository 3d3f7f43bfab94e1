package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/urfave/cli/v3"
	"golang.org/x/sync/errgroup"
	"maunium.net/go/mautrix"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/cmd/matrix-memory/internal/place"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// How many keys are asked for, or set, at the same time.
const (
	readsAtOnce = 16
	// Those that are set in one dictionary at the same time share a request.
	setsAtOnce = 512
	// With a state event for each key each has its turn, and has to have it within the memory's timeout. Homeservers may
	// take no more than one in five seconds.
	setsPerKeyAtOnce = 4
)

// patience is how long a set may take at least where there are many: homeservers limit how often a bot may write.
const patience = 3 * time.Minute

// openRoom opens a room that is to be a place.
func openRoom(ctx context.Context, cmd *cli.Command, conf matrix.Config, p purpose) (roomPlace, error) {
	if p == writing {
		conf.Timeout = max(conf.Timeout, patience)
	}
	c, err := open(ctx, cmd, conf, p)
	return roomPlace{c}, err
}

// A roomPlace is the memory of a room.
type roomPlace struct{ *connection }

// Read implements place.Place.
func (r roomPlace) Read(ctx context.Context) (place.Contents, error) {
	return r.contents(ctx, isAboutValue)
}

// isAboutValue says of an error of Get whether it is the value that can't be read, and not the homeserver that can't be reached.
func isAboutValue(err error) bool {
	return errors.Is(err, matrix.ErrUndecryptable) || errors.Is(err, matrix.ErrNoEncryption) || errors.Is(err, wire.ErrBroken)
}

// contents returns all that the room holds. An error of a value that is not one of those that make it unreadable is one of all.
func (r roomPlace) contents(ctx context.Context, unreadable func(error) bool) (held place.Contents, err error) {
	held.Values, held.Unreadable = make(map[string][]byte), make(map[string]error)
	keys, err := r.room.Keys()
	if err != nil {
		return held, err
	}
	var mu sync.Mutex // owns held
	group, going := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	room := r.room.WithContext(going)
	for _, key := range keys {
		group.Go(func() error {
			var value []byte
			ok, err := room.Get(key, &value)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil && !unreadable(err):
				return err
			case err != nil:
				held.Unreadable[key] = err
			case ok: // else somebody has deleted it meanwhile
				held.Values[key] = value
			}
			return nil
		})
	}
	return held, group.Wait()
}

// Refuses implements place.Place: a room takes any key, and what is too large is known once it is written.
func (roomPlace) Refuses(string) error { return nil }

// Write implements place.Place.
func (r roomPlace) Write(ctx context.Context, values map[string][]byte, done func(string, error)) error {
	var mu sync.Mutex // held while done is called
	var group errgroup.Group
	group.SetLimit(setsAtOnce)
	if r.conf.SingleStateKey == matrix.PerKey {
		group.SetLimit(setsPerKeyAtOnce)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	room := r.room.WithContext(ctx)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			err := room.Set(key, values[key])
			if err != nil && !isAboutKey(err) {
				cancel(err) // the others would fail as well
				return context.Cause(ctx)
			}
			mu.Lock()
			defer mu.Unlock()
			done(key, err)
			return nil
		})
	}
	return group.Wait()
}

// isAboutKey says of an error of Set whether other keys may well be set.
func isAboutKey(err error) bool {
	var answer mautrix.HTTPError
	return errors.Is(err, matrix.ErrTooLarge) ||
		errors.As(err, &answer) && answer.Response != nil && answer.Response.StatusCode == http.StatusBadRequest
}

// failuresNamed is how many keys are named at most.
const failuresNamed = 20

// failures says of which keys something could not be done, a line each.
func failures(failed map[string]error, what string) error {
	if len(failed) == 0 {
		return nil
	}
	var lines []error
	for i, key := range slices.Sorted(maps.Keys(failed)) {
		if i == failuresNamed {
			lines = append(lines, fmt.Errorf("and %d more", len(failed)-i))
			break
		}
		lines = append(lines, fmt.Errorf("%s: %w", onOneLine(key), failed[key]))
	}
	return fmt.Errorf("%s %s:\n%w", count(len(failed), "key"), what, errors.Join(lines...))
}
