// Package journal keeps on disk what was acknowledged and is not delivered yet, and what rooms were last known to hold.
//
// A [Journal] is one bbolt file. What is not delivered is also in memory, where reads are answered from; what
// rooms held is read when it is asked for. A change is a row of a table and no entry of a log: the
// next one of the same key takes its place, so the file is bounded by the keys.
//
// # Failure
//
// After a write that failed it can't be known what is on disk, nor does a second fsync tell the truth. So the file is never
// written again: it gets the name of the journal with ".failed" behind it, and [Journal.Put] and all else that
// writes returns [ErrFailed]. The next Open reads it in, into a new file, and removes it. What was delivered
// meanwhile, or written by other ways, is not in it; [Journal.Left] says what that may be. So each of its changes that was not attempted counts as
// attempted when it was made ([Change.Depth], [Change.Over]), unless it was made blind: it then loses to all that its writer has written since, and
// of the change that failed it does not matter whether it is there. Where both files are there and have
// changes, as after a backup was put in the place of the one that failed, that goes for both: a change in both is the one with the greater Seq,
// with the first attempt that it had; and what stood in the failed one and was delivered before it failed is not taken from the other.
//
// # What is sealed
//
// With [Options.Key] all is sealed but the account, the rooms' IDs and aliases, the events' IDs, and the names of notes: values, keys' names,
// what they held, why they were refused, state, events, counts. Each record is bound to its place, the head to the number of changes and to
// a sum over them, so none can be read, swapped, left out, or taken from another file or from before, nor is a file taken that is not sealed.
// Only the whole file can be replaced by an older copy of it, which is what [Journal.Generation] is for. Without a key each record
// has a checksum that is bound in the same way.
package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/gofrs/flock"
	"github.com/sirupsen/logrus"
)

var (
	// ErrInUse says that another process has the file, or this one a second time.
	ErrInUse = errors.New("it is in use by another bot or process, and belongs to one at a time")
	// ErrDamaged says that the file, or an entry, is not what was written.
	ErrDamaged = errors.New("it is damaged")
	// ErrFailed says that a write failed, this one or an earlier one, or that the file was found to be damaged, and that the journal
	// writes no more.
	ErrFailed = errors.New("the journal failed")
	// ErrInPlace goes along with ErrFailed where the file could not be renamed. As long as that is so, a start would take it for sound:
	// so nothing that it holds may be delivered, and no key that it has a change of may be written, by other ways.
	ErrInPlace = errors.New("and its file could not be renamed")
	// ErrClosed says that the journal was closed.
	ErrClosed = errors.New("the journal is closed")
)

// Options say how a journal is opened.
type Options struct {
	Account string             // the user ID that all is written as: a file of another one is refused; "": it is not known so far
	Key     string             // the passphrase that seals what the file holds; "": nothing is sealed
	Log     logrus.FieldLogger // must be set
}

// A Journal is safe for concurrent use. It runs no goroutines.
type Journal struct {
	path   string
	lock   *flock.Flock
	folder string // to be removed by Close; "": none

	// writing is held while a transaction is under way, and until what it did is in memory. It is always
	// locked before mu. It owns the file, which others may read, and:
	writing sync.Mutex
	file    *file
	written head
	start   string  // this one
	starts  []Start // that made changes, this one once it has

	// mu is never held while the disk is waited for. It owns:
	mu      sync.RWMutex
	changes map[string]map[string]*Change // by room and key; a Change that is in here stays as it is
	depths  map[string]int64
	behind  map[name]bool   // changes that are otherwise, or no more, in memory: for the next transaction but one of Put
	staged  map[slot][]byte // entries that the same writes; nil: removes
	flying  map[slot][]byte // and that the one under way does
	failure error
	aside   bool // the failed file was renamed
	closed  bool
}

// A name is what the journal has at most one change of.
type name struct{ room, key string }

// A slot is where an entry stands in the file.
type slot struct{ bucket, key string }

// Open opens the journal in a file, and makes it if there is none, readable for its owner alone. Beside it
// are files that end in ".lock", which stays, in ".new" for moments, and in ".failed": see Failure above. A file that was made without a
// passphrase is refused with one if it has changes; otherwise a new file takes its place. A name that is a link stays
// one: all is done where it leads.
func Open(called string, options Options) (*Journal, error) { return openAs(called, called, options) }

// openAs is Open, and its errors have another name for the file.
func openAs(as, called string, options Options) (_ *Journal, err error) {
	path, err := locate(called)
	if err != nil {
		return nil, explain(as, err)
	}
	lock := flock.New(path+".lock", flock.SetPermissions(0o600))
	defer func() {
		if err != nil {
			lock.Close()
			var of *fileError
			if as != called && errors.As(err, &of) {
				err = &fileError{as + strings.TrimPrefix(of.path, path), of.err}
			}
			err = explain(as, err)
		}
	}()
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking it, for which its folder has to be writable: %w", err)
	}
	if !locked {
		return nil, ErrInUse
	}
	f, err := openCurrent(path, options)
	if err != nil {
		return nil, err
	}
	changes, depths, err := f.changes()
	if err != nil {
		f.close()
		return nil, err
	}
	j := &Journal{
		path: path, lock: lock, file: f, written: f.head, start: rand.Text(),
		changes: changes, depths: depths, behind: make(map[name]bool), staged: make(map[slot][]byte),
	}
	if j.starts, err = f.starts(); err != nil {
		f.close()
		return nil, err
	}
	return j, nil
}

// explain adds to an error of Open which file it is about and, if that is damaged, what can be done.
func explain(path string, err error) error {
	var of *fileError
	if errors.As(err, &of) {
		path, err = of.path, of.err
	}
	err = fmt.Errorf("the journal %s: %w", path, err)
	if errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w; nothing in it was changed: put a good copy in its place, or move it away and do without the changes in it that were not delivered", err)
	}
	return err
}

// A fileError says which of several files an error is about.
type fileError struct {
	path string
	err  error
}

func (e *fileError) Error() string { return e.path + ": " + e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// Path returns where the file is.
func (j *Journal) Path() string { return j.path }

// CanSeal says whether what the file holds is sealed.
func (j *Journal) CanSeal() bool { return j.file.box.aead != nil }

// ID returns a random name that the journal has kept since it was made, also where a failed file was read in, or
// since it was found to be a copy.
func (j *Journal) ID() string {
	j.writing.Lock()
	defer j.writing.Unlock()
	return j.written.id
}

// Generation returns the number that was set last, 0 at first.
func (j *Journal) Generation() int64 {
	j.writing.Lock()
	defer j.writing.Unlock()
	return j.written.generation
}

// SetGeneration sets the number. It is on disk when SetGeneration returns.
func (j *Journal) SetGeneration(n int64) error {
	j.writing.Lock()
	defer j.writing.Unlock()
	next := j.written
	next.generation = n
	return j.commit(transaction{head: next})
}

// Flush writes what was left for a later transaction, if there is anything.
func (j *Journal) Flush() error {
	j.writing.Lock()
	defer j.writing.Unlock()
	return j.flush()
}

func (j *Journal) flush() error {
	j.mu.RLock()
	idle := len(j.behind) == 0 && len(j.staged) == 0 && j.failure == nil && !j.closed
	j.mu.RUnlock()
	if idle {
		return nil
	}
	return j.commit(transaction{head: j.written})
}

// Close writes what was left for a later transaction, and lets go of the file. What is in memory can still be
// read. It returns an error if something could not be written, unless ErrFailed was returned before.
func (j *Journal) Close() error {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.RLock()
	closed, failed := j.closed, j.failure != nil
	j.mu.RUnlock()
	if closed {
		return nil
	}
	err := j.flush()
	if failed {
		err = nil
	} else if err == nil {
		if err = j.file.close(); err != nil {
			err = fmt.Errorf("closing the journal %s: %w", j.path, err)
		}
	}
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	err = errors.Join(err, j.lock.Close())
	if j.folder != "" {
		err = errors.Join(err, os.RemoveAll(j.folder))
	}
	return err
}

// usable returns an error if nothing is written any more. The caller holds mu.
func (j *Journal) usable() error {
	if j.closed {
		return fmt.Errorf("%w: %s", ErrClosed, j.path)
	}
	return j.failed()
}
