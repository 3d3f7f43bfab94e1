package journal

import (
	"errors"
	"fmt"
	"os"
)

// What the names of the files beside a journal end in: one that failed, and one that is being made.
const (
	failedSuffix = ".failed"
	newSuffix    = ".new"
)

// Failure returns nil, or why the journal writes no more: ErrFailed with the cause, and ErrInPlace where that holds.
func (j *Journal) Failure() error {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.failed()
}

// failed is what Failure returns. The caller holds mu.
func (j *Journal) failed() error {
	switch {
	case j.failure == nil:
		return nil
	case j.aside:
		return fmt.Errorf("%w: %s: %w; it is now %s, which the next start reads in: make room, or see to the disk, and start anew",
			ErrFailed, j.path, j.failure, j.path+failedSuffix)
	}
	return fmt.Errorf("%w: %s: %w; %w: rename it to %s, see to the disk, and start anew",
		ErrFailed, j.path, j.failure, ErrInPlace, j.path+failedSuffix)
}

// Left returns up to which Seq the file may hold changes of a key, also such as are done or of which a write
// failed; 0: it holds none that a start would deliver.
func (j *Journal) Left(room, key string) uint64 {
	j.writing.Lock() // a write that is under way may be what fails
	defer j.writing.Unlock()
	j.mu.RLock()
	defer j.mu.RUnlock()
	if c := j.changes[room][key]; (c == nil || c.Refused == Copied) && !j.behind[name{room, key}] {
		return 0
	}
	return j.written.seq
}

// giveUp notes that the file is not to be used any more.
func (j *Journal) giveUp(err error) {
	j.mu.Lock()
	j.failure = err
	j.mu.Unlock()
}

// fail gives the file up after a write that failed. The caller holds writing.
func (j *Journal) fail(err error) {
	j.giveUp(err)
	if !errors.Is(err, errPanic) {
		// An error does not matter: the file is not written again.
		_ = j.file.close()
	}
	j.setAside()
}

// setAside renames the file of a journal that failed, if that was not done. The caller holds writing.
func (j *Journal) setAside() {
	j.mu.RLock()
	done := j.aside || j.failure == nil
	j.mu.RUnlock()
	if done {
		return
	}
	err := rename(j.path, j.path+failedSuffix)
	if errors.Is(err, os.ErrNotExist) { // it was renamed, and the folder could not be written
		err = syncFolder(j.path)
	}
	j.mu.Lock()
	j.aside = err == nil
	j.mu.Unlock()
}

// rename renames a file, and returns nil once that is on disk.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncFolder(to)
}
