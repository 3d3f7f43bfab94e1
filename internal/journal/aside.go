package journal

import (
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/bbolt"
)

// SetAside puts a copy of the file, with all that it holds, beside it, and then removes all
// changes, as those of a journal that is not the latest. It returns the copy's path, or "" if
// there was nothing to keep.
func (j *Journal) SetAside() (path string, err error) {
	rooms := j.allRooms()
	if len(rooms) == 0 {
		return "", nil
	}
	path = j.Path() + ".copy"
	err = guard(func() error {
		return j.file.db.View(func(tx *bbolt.Tx) error { return tx.CopyFile(path, 0o600) })
	})
	if err != nil {
		return "", fmt.Errorf("keeping a copy of the journal in %s: %w", path, err)
	}
	for _, room := range rooms {
		seqs := make(map[string]uint64)
		for _, change := range j.Changes(room) {
			seqs[change.Key] = change.Seq
		}
		j.Done(room, seqs)
	}
	return path, j.Flush()
}

// Path returns where the file is.
func (j *Journal) Path() string { return j.path }

// allRooms returns all rooms with changes.
func (j *Journal) allRooms() []string {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return slices.Sorted(maps.Keys(j.changes))
}

// Refused returns the rooms with dead letters.
func (j *Journal) Refused() (rooms []string) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	for room, changes := range j.changes {
		for _, c := range changes {
			if c.Refused != "" {
				rooms = append(rooms, room)
				break
			}
		}
	}
	return rooms
}
