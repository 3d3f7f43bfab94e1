// Package place is where joe bots keep their memories beside Matrix rooms: what the memories for Bolt, Redis and files
// write is read as it is, and written so that they read it.
package place

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// ErrMissing says that there is no such place: a file, or a hash of Redis. To write makes it.
var ErrMissing = fs.ErrNotExist

// A Place holds keys and values.
type Place interface {
	// Read returns all that is there.
	Read(ctx context.Context) (Contents, error)
	// Refuses says why the place can't keep a key, whatever its value is.
	Refuses(key string) error
	// Write sets keys to values, and calls done, never twice at a time, for each key that was set or that failed. An error is
	// about all keys that done was not called for.
	Write(ctx context.Context, values map[string][]byte, done func(key string, err error)) error
}

// Contents are what is in a place.
type Contents struct {
	Values     map[string][]byte
	Unreadable map[string]error // keys whose values can't be read, and why
}

// A Difference is what is to be written for a place to have what another one has. What only the former has stays.
type Difference struct {
	New     []string // keys that it has not
	Changed []string // keys that have another value there
	Same    int      // how many there are that stay as they are
}

// Compare says what is to be written to a place. One that is missing has nothing; what can't be read there is written anew.
func Compare(ctx context.Context, values map[string][]byte, to Place) (d Difference, err error) {
	there, err := to.Read(ctx)
	if err != nil && !errors.Is(err, ErrMissing) {
		return d, err
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		value, ok := there.Values[key]
		switch {
		case ok && equal(value, values[key]):
			d.Same++
		case ok || there.Unreadable[key] != nil:
			d.Changed = append(d.Changed, key)
		default:
			d.New = append(d.New, key)
		}
	}
	return d, nil
}

// equal says whether two values are the same: as JSON, if they are that.
func equal(a, b []byte) bool { return bytes.Equal(a, b) || wire.Equal(a, b) }
