package journal

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// A bot has its journal's file to itself as long as it runs. Who wants to look at the file meanwhile looks at a copy: the original
// is read, and neither locked nor changed.

// copyTries is how often a copy is begun anew because the bot wrote meanwhile. One takes about a millisecond.
const copyTries = 200

// OpenCopy opens a copy of a journal, which another process may be using, to be looked at: what is in the failed file beside it is read in. Nothing of
// what is done to the copy outlives it, and its files are gone once it is open, or where that can't be once it is closed.
func OpenCopy(called string, options Options) (*Journal, error) {
	folder, err := os.MkdirTemp("", "matrix-memory-")
	if err != nil {
		return nil, explain(called, fmt.Errorf("making a folder for a copy: %w", err))
	}
	j, err := openCopyIn(folder, called, options)
	if removed := os.RemoveAll(folder); removed != nil && err == nil { // Windows keeps what is open
		j.folder = folder
	}
	return j, err
}

func openCopyIn(folder, called string, options Options) (*Journal, error) {
	copied := filepath.Join(folder, "copy")
	if err := Copy(called, copied); err != nil {
		return nil, err
	}
	return openAs(called, copied, options)
}

// Copy copies a journal's file, which another process may be using, and the failed one beside it, to files of which none is there yet.
func Copy(called, to string) error {
	path, err := locate(called)
	if err != nil {
		return explain(called, err)
	}
	found := false
	for _, suffix := range []string{"", failedSuffix} {
		content, err := readWhole(path + suffix)
		if err == nil {
			found = true
			err = os.WriteFile(to+suffix, content, 0o600)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return explain(called, &fileError{path + suffix, fmt.Errorf("copying it: %w", err)})
		}
	}
	if !found {
		return explain(called, os.ErrNotExist)
	}
	return nil
}

// readWhole reads a bbolt file between two of its transactions. One that is under way writes only where the last one has nothing,
// and the meta page last of all: so all is of one transaction if that page says the same before and after.
func readWhole(path string) ([]byte, error) {
	opened, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	for range copyTries {
		before := latestMeta(opened)
		content, err := io.ReadAll(io.NewSectionReader(opened, 0, 1<<62))
		if err != nil || latestMeta(opened) == before {
			return content, err
		}
		time.Sleep(time.Millisecond)
	}
	return nil, errors.New("it is written all the time: try again when the bot has less to do")
}

// latestMeta returns the meta page that counts, a zero one where there is none, which [Open] says more of.
func latestMeta(file io.ReaderAt) (latest meta) {
	for at := int64(0); at <= 1<<24; at = max(1<<10, at<<1) { // the sizes of pages that bbolt tries
		if m, ok := readMeta(file, at); ok && m.txn >= latest.txn && (at == 0 || at == m.pageSize) {
			latest = m
		}
	}
	return latest
}

// KnownRooms returns the rooms that the journal knows something of: what they held, or changes.
func (j *Journal) KnownRooms() ([]string, error) {
	if err := j.Flush(); err != nil {
		return nil, err
	}
	rooms := make(map[string]bool)
	err := j.view(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(inRooms)).ForEach(func(room, _ []byte) error {
			rooms[string(room)] = true
			return nil
		})
	})
	j.mu.RLock()
	defer j.mu.RUnlock()
	for room := range j.changes {
		rooms[room] = true
	}
	return slices.Sorted(maps.Keys(rooms)), err
}
