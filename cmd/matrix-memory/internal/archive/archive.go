// Package archive is the form in which a room's memory is exported: lines of JSON. The first one says what it is and where it is
// from, then comes a line for each key, and the last one says how many these are, with a digest of all before it: so it
// is noticed where something is missing or is not what was written.
package archive

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/go-joe/matrix-memory/cmd/matrix-memory/internal/place"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// What the first line says that a file is.
const (
	format  = "matrix-memory export"
	version = 1
)

// A header is the first line.
type header struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Room    string    `json:"room"`
	Time    time.Time `json:"time"`
}

// An entry is a key. Both stand as in a room, where all bytes have a form in JSON.
type entry struct {
	Key   *string         `json:"key"`
	Value json.RawMessage `json:"value"`
}

// A trailer is the last line.
type trailer struct {
	Keys   *int     `json:"keys"`
	Unread []string `json:"unread,omitempty"` // names of keys that are not here as their values could not be read
	SHA256 string   `json:"sha256,omitempty"`
}

// Encode gives what a room holds.
func Encode(room string, at time.Time, held place.Contents) ([]byte, error) {
	var out bytes.Buffer
	lines := json.NewEncoder(&out)
	lines.SetEscapeHTML(false)
	if err := lines.Encode(header{format, version, room, at.UTC().Truncate(time.Second)}); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(held.Values)) {
		name := wire.EncodeKey(key)
		if err := lines.Encode(entry{&name, wire.EncodeValue(held.Values[key])}); err != nil {
			return nil, fmt.Errorf("the key %q: %w", key, err)
		}
	}
	n := len(held.Values)
	last := trailer{Keys: &n, SHA256: fmt.Sprintf("%x", sha256.Sum256(out.Bytes()))}
	for _, key := range slices.Sorted(maps.Keys(held.Unreadable)) {
		last.Unread = append(last.Unread, wire.EncodeKey(key))
	}
	err := lines.Encode(last)
	return out.Bytes(), err
}

// errUnread is why a key is not in an export.
var errUnread = errors.New("it could not be read when this was exported")

// Decode reads what Encode gave, all of it or nothing.
func Decode(from io.Reader) (held place.Contents, err error) {
	r := reader{lines: bufio.NewReader(from), sum: sha256.New()}
	held.Values, held.Unreadable = make(map[string][]byte), make(map[string]error)
	var h header
	if err := r.next(&h); err != nil || h.Format != format {
		return held, errors.New("it is no export: the first line has to say so, as matrix-memory export writes it")
	}
	if h.Version != version {
		return held, fmt.Errorf("it was exported in version %d of the format, and this program reads %d: use a newer one", h.Version, version)
	}
	for {
		before := hex.EncodeToString(r.sum.Sum(nil))
		var line struct {
			entry
			trailer
		}
		switch err := r.next(&line); {
		case errors.Is(err, io.EOF):
			return held, fmt.Errorf("it is cut off after line %d: its last line has to say how many keys there are", r.line)
		case err != nil:
			return held, fmt.Errorf("line %d: %w", r.line, err)
		case line.Keys != nil && line.Key == nil && line.Value == nil:
			for _, name := range line.Unread {
				key, _ := wire.DecodeKey(name)
				held.Unreadable[key] = errUnread
			}
			return held, r.end(len(held.Values), line.trailer, before)
		case line.Key == nil || line.Value == nil || line.Keys != nil || line.SHA256 != "":
			return held, fmt.Errorf(`line %d: it is damaged: a line is {"key":…,"value":…}, and only the last one {"keys":…}`, r.line)
		}
		key, ok := wire.DecodeKey(*line.Key)
		value := wire.DecodeValue(line.Value)
		if _, twice := held.Values[key]; twice {
			return held, fmt.Errorf("line %d: the key %q is there twice", r.line, key)
		}
		switch {
		case !ok:
			return held, fmt.Errorf("line %d: %q is no key's name", r.line, *line.Key)
		case value.Err != nil:
			return held, fmt.Errorf("line %d: the value of %q: %w", r.line, key, value.Err)
		case value.Pointer != "":
			return held, fmt.Errorf("line %d: the value of %q stands in another event, %s, and not here", r.line, key, value.Pointer)
		}
		held.Values[key] = value.Value
	}
}

// A reader reads lines.
type reader struct {
	lines *bufio.Reader
	line  int
	sum   hash.Hash // of all of it
}

// next reads a line.
func (r *reader) next(into any) error {
	line, err := r.lines.ReadBytes('\n')
	r.sum.Write(line)
	if len(line) == 0 {
		return err
	}
	r.line++
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	strict := json.NewDecoder(bytes.NewReader(line))
	strict.DisallowUnknownFields()
	failed := strict.Decode(into) // whose words may quote a value
	if _, err := strict.Token(); failed != nil || !errors.Is(err, io.EOF) {
		return errors.New("it is damaged: it is no JSON of the kind that is expected")
	}
	return nil
}

// end checks the last line, and that nothing follows.
func (r *reader) end(keys int, last trailer, before string) error {
	if rest, err := io.ReadAll(r.lines); err != nil {
		return err
	} else if len(bytes.TrimSpace(rest)) > 0 {
		return fmt.Errorf("line %d: it says that it is the last one, and others follow", r.line)
	}
	switch {
	case *last.Keys != keys:
		return fmt.Errorf("it has %d keys, and its last line says that there are %d: something is missing or was added; if that is meant, correct the number and remove the sha256", keys, *last.Keys)
	case last.SHA256 != "" && last.SHA256 != before:
		return errors.New("it is not as it was written, says the sha256 in its last line: it is damaged, or was changed; if that is meant, remove the sha256")
	}
	return nil
}
