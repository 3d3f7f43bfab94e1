package journal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Known is what is known of rooms. To the journal it is bytes. What is empty is forgotten.
type Known struct {
	Rooms   map[string][]byte            // by room: the last known state
	Aliases map[string]string            // by alias: the room's ID
	Events  map[string]map[string][]byte // by room and event: the ciphertext of an encrypted event
	Notes   map[string]string            // by name: what else is to be known at the next start
}

// Save keeps what is known, all in one transaction: the next one, or that of [Journal.Flush] or [Journal.Close]. So none of it is
// ever ahead of what was saved before it or along with it. Reads have it at once.
func (j *Journal) Save(known Known) error {
	entries, err := known.entries()
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(); err != nil {
		return err
	}
	maps.Copy(j.staged, entries)
	return nil
}

// entries returns what is to stand where in the file; nil: nothing.
func (known Known) entries() (map[slot][]byte, error) {
	entries := make(map[slot][]byte)
	var names []string
	add := func(at slot, record []byte, named ...string) {
		entries[at] = nil
		if len(record) > 0 {
			entries[at] = append([]byte{}, record...)
		}
		names = append(names, named...)
	}
	for room, state := range known.Rooms {
		add(slot{inRooms, room}, state, room)
	}
	for alias, room := range known.Aliases {
		add(slot{inAliases, alias}, []byte(room), alias)
	}
	for room, events := range known.Events {
		for event, content := range events {
			add(slot{inEvents, eventKey(room, event)}, content, room, event)
		}
	}
	for name, note := range known.Notes {
		add(slot{inNotes, name}, []byte(note), name)
	}
	return entries, checkNames(names...)
}

// Load returns a room's last known state, nil if there is none. It may wait for the disk, as all below may, but not for
// a write; and of a journal that failed or was closed, none of these can be read.
func (j *Journal) Load(room string) ([]byte, error) { return j.load(inRooms, room) }

// Aliases returns the IDs of the rooms that aliases led to, by alias, but for what is damaged. It writes what
// waits first.
func (j *Journal) Aliases() (map[string]string, error) {
	if err := j.Flush(); err != nil {
		return nil, err
	}
	rooms := make(map[string]string)
	err := j.view(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(inAliases)).ForEach(func(alias, raw []byte) error {
			if room, err := j.file.box.open(inAliases, alias, raw); err == nil {
				rooms[string(alias)] = string(room)
			}
			return nil
		})
	})
	return rooms, err
}

// Note returns what was noted under a name, "" if nothing was.
func (j *Journal) Note(name string) (string, error) {
	note, err := j.load(inNotes, name)
	return string(note), err
}

// Event returns the ciphertext of an event, nil if it is not known.
func (j *Journal) Event(room, event string) ([]byte, error) {
	return j.load(inEvents, eventKey(room, event))
}

// Events returns the IDs of a room's events that are known, for those to be dropped that nothing points at. It
// writes what waits first.
func (j *Journal) Events(room string) (events []string, err error) {
	j.writing.Lock()
	defer j.writing.Unlock()
	if err := j.flush(); err != nil {
		return nil, err
	}
	prefix := []byte(eventKey(room, ""))
	err = j.view(func(tx *bbolt.Tx) error {
		c := tx.Bucket([]byte(inEvents)).Cursor()
		for key, _ := c.Seek(prefix); bytes.HasPrefix(key, prefix); key, _ = c.Next() {
			events = append(events, string(key[len(prefix):]))
		}
		return nil
	})
	return events, err
}

// load returns what stands in a slot, or will once all that was saved is written.
func (j *Journal) load(bucket, key string) (record []byte, err error) {
	at := slot{bucket, key}
	j.mu.RLock()
	record, saved := j.staged[at]
	if !saved {
		record, saved = j.flying[at]
	}
	j.mu.RUnlock()
	if saved {
		return record, nil
	}
	err = j.view(func(tx *bbolt.Tx) (err error) {
		record, err = j.file.record(tx, at)
		return err
	})
	return record, err
}

// record returns what stands in a slot, nil if nothing does.
func (f *file) record(tx *bbolt.Tx, at slot) ([]byte, error) {
	raw := tx.Bucket([]byte(at.bucket)).Get([]byte(at.key))
	if raw == nil {
		return nil, nil
	}
	record, err := f.box.open(at.bucket, []byte(at.key), raw)
	if err != nil {
		return nil, damaged(fmt.Errorf("the entry %q of %q: %w", at.key, at.bucket, err))
	}
	return record, nil
}

// view reads the file, unless that is given up.
func (j *Journal) view(do func(*bbolt.Tx) error) error {
	j.mu.RLock()
	err := j.usable()
	j.mu.RUnlock()
	if err != nil {
		return err
	}
	err = j.file.view(do)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen): // it failed or was closed just now
		err = ErrClosed
	case errors.Is(err, errPanic): // and bbolt can't be called again
		j.giveUp(err)
		if j.writing.TryLock() { // or else the file is renamed later
			j.setAside()
			j.writing.Unlock()
		}
	}
	return fmt.Errorf("reading the journal %s: %w", j.path, err)
}

// eventKey is where an event stands in its bucket: the room comes first, with its length, so that a room's events are together.
func eventKey(room, event string) string {
	var w writer
	w.text(room)
	return string(w) + event
}
