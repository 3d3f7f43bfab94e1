package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// format is the version of what is in the file. All versions have the bucket "file" with a header
// that begins with the version and ends with a checksum.
const format = 1

// The buckets, and what they hold. Each entry is in the file's box but the header.
const (
	inFile    = "file"    // the header and the head
	inChanges = "changes" // by what the box makes of room and key
	inDepths  = "depths"  // by room: the greatest depth that was attempted
	inRooms   = "rooms"   // by room: its last known state
	inAliases = "aliases" // by alias: the room's ID
	inEvents  = "events"  // by room and event: see eventKey
	inNotes   = "notes"   // by name
)

// kept are the buckets whose entries are read when they are asked for.
var kept = []string{inRooms, inAliases, inEvents, inNotes}

var (
	headerKey = []byte("header")
	headKey   = []byte("head")
	checkKey  = []byte("check") // where the header's check would stand
)

// A header says whose a file is and how it is read.
type header struct {
	account string
	salt    []byte
	adopted []byte // the salt of the failed file that was read in last, if there was one
	check   []byte // what a box that is sealed makes of all this, at checkKey
}

func (h header) sealed() bool { return len(h.check) > 0 }

// checked is what check is made of.
func (h header) checked() []byte {
	var w writer
	w.uint(format)
	w.text(h.account)
	w.bytes(h.salt)
	w.bytes(h.adopted)
	return w
}

func (h header) encode() []byte {
	w := writer(h.checked())
	w.bytes(h.check)
	return append(w, checksum(w)...)
}

func decodeHeader(raw []byte) (header, error) {
	size := len(raw) - 4
	if size < 0 || string(checksum(raw[:size])) != string(raw[size:]) {
		return header{}, damaged(fmt.Errorf("its header: %w", errUnfit))
	}
	r := reader{rest: raw[:size]}
	if version := r.uint(); !r.broken && version != format {
		return header{}, fmt.Errorf("%w: format %d, and this version reads %d", errFormat, version, format)
	}
	h := header{account: r.text(), salt: r.bytes(), adopted: r.bytes(), check: r.bytes()}
	if r.end() != nil || len(h.salt) != saltSize {
		return header{}, damaged(fmt.Errorf("its header: %w", errRecord))
	}
	return h, nil
}

var errFormat = errors.New("it was made by a newer version: run that one, or one that is newer still")

// A file is a bbolt file that is a journal's, open.
type file struct {
	path string
	db   *bbolt.DB
	header
	head
	box     *box
	digests map[slot]uint64 // of the entries that the head counts; as what follows, of whoever writes the file
	names   map[name][]byte // what box.name said, of changes that were written
}

func newFile(path string, db *bbolt.DB) *file {
	return &file{path: path, db: db, digests: make(map[slot]uint64), names: make(map[name][]byte)}
}

// openFile opens a file that there is; reading opens it for that only.
func openFile(path string, options Options, reading bool) (_ *file, err error) {
	if err := inspect(path, options.Log); err != nil {
		return nil, err
	}
	db, err := openBolt(path, reading)
	if err != nil {
		return nil, err
	}
	f := newFile(path, db)
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	var rawHeader, rawHead []byte
	err = f.view(func(tx *bbolt.Tx) error {
		if b := tx.Bucket([]byte(inFile)); b != nil {
			rawHeader = append(rawHeader, b.Get(headerKey)...)
			rawHead = append(rawHead, b.Get(headKey)...)
		}
		if rawHeader == nil {
			return damaged(errors.New("it is a bbolt file, but no journal"))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if f.header, err = decodeHeader(rawHeader); err != nil {
		return nil, err
	}
	switch {
	case options.Account != "" && f.account != "" && f.account != options.Account:
		return nil, fmt.Errorf("it belongs to the account %s, and not to %s: give each account a file of its own", f.account, options.Account)
	case f.sealed() && options.Key == "":
		return nil, errors.New("its values are sealed, and no store_key is set: set the one that it was made with")
	case !f.sealed():
		options.Key = ""
	}
	if f.box, err = newBox(f.salt, options.Key); err != nil {
		return nil, err
	}
	if f.sealed() {
		checked, err := f.box.open(inFile, checkKey, f.check)
		if err != nil {
			return nil, errors.New("its values are sealed with another store_key: set the one that it was made with")
		}
		if !bytes.Equal(checked, f.checked()) {
			return nil, damaged(fmt.Errorf("its header: %w", errUnfit))
		}
	}
	record, err := f.box.open(inFile, headKey, rawHead)
	if err == nil {
		f.head, err = decodeHead(record)
	}
	if err != nil {
		return nil, damaged(fmt.Errorf("its head: %w", err))
	}
	return f, f.view(func(tx *bbolt.Tx) error {
		for _, name := range append([]string{inChanges, inDepths}, kept...) {
			if tx.Bucket([]byte(name)) == nil {
				return damaged(fmt.Errorf("%q is not in it", name))
			}
		}
		return nil
	})
}

// locate returns where the file of a name is or is to be made, wherever the program goes later. Links are
// followed: a file that takes the place of another one would take a link's.
func locate(name string) (path string, err error) {
	if path, err = filepath.Abs(name); err != nil {
		return "", err
	}
	for range 40 { // as deep as Linux follows them
		to, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			folder, err := filepath.EvalSymlinks(filepath.Dir(path)) // as ".." is said from where that leads
			if err != nil {
				return "", err
			}
			to = filepath.Join(folder, to)
		}
		path = to
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return "", errors.New("it is a folder: name a file in it")
	case err == nil && !info.Mode().IsRegular(): // to open a pipe would wait for somebody to write
		return "", errors.New("it is no file")
	case errors.Is(err, os.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return "", fmt.Errorf("its folder has to be there, and is not made: %w", err)
		}
		return path, nil
	}
	return path, err
}

// inspect looks at a file before bbolt gets it.
func inspect(path string, log logrus.FieldLogger) error {
	opened, err := os.Open(path)
	if err != nil {
		return err
	}
	defer opened.Close()
	info, err := opened.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is no file")
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		if err := opened.Chmod(0o600); err != nil {
			return fmt.Errorf("others than its owner may use it, and that can't be changed: %w", err)
		}
		log.WithField("file", path).Warn("Others than its owner could use the journal's file; its mode is now 0600.")
	}
	halved, err := checkPages(opened, info.Size())
	if err != nil {
		return damaged(err)
	}
	if halved {
		log.WithField("file", path).Warn("The journal's file lost one of its two meta pages, in a crash or by damage. The other is sound, but the last change may be missing.")
	}
	return nil
}

// openBolt opens a bbolt file, or makes it.
func openBolt(path string, reading bool) (db *bbolt.DB, err error) {
	err = guard(func() error {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout:      500 * time.Millisecond, // somebody may look at it with a tool
			NoStatistics: true,
			// A list of free pages would be written with each change. Without it bbolt finds them when the
			// file is opened, which reads all of it, as inspect does anyhow.
			NoFreelistSync: true,
			ReadOnly:       reading,
		})
		return err
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		err = ErrInUse
	}
	return db, err
}

func (f *file) close() error { return guard(f.db.Close) }

func (f *file) view(do func(*bbolt.Tx) error) error {
	return guard(func() error { return f.db.View(do) })
}

// changes returns all changes and depths of the file, and finds out whether that is all there is.
func (f *file) changes() (changes map[string]map[string]*Change, depths map[string]int64, err error) {
	changes, depths = make(map[string]map[string]*Change), make(map[string]int64)
	err = f.view(func(tx *bbolt.Tx) error {
		err := f.each(tx, inChanges, func(key, raw, record []byte) error {
			room, c, err := decodeChange(record)
			if err != nil {
				return err
			}
			if changes[room] == nil {
				changes[room] = make(map[string]*Change)
			}
			if changes[room][c.Key] != nil || c.Seq > f.seq {
				return errUnfit
			}
			changes[room][c.Key] = c
			f.digests[slot{inChanges, string(key)}] = digest(inChanges, key, raw)
			return nil
		})
		if err != nil {
			return err
		}
		return f.each(tx, inDepths, func(key, raw, record []byte) error {
			depth, err := decodeNumber(record)
			depths[string(key)] = depth
			f.digests[slot{inDepths, string(key)}] = digest(inDepths, key, raw)
			return err
		})
	})
	var sum uint64
	for _, digest := range f.digests {
		sum ^= digest
	}
	if err == nil && (uint64(len(f.digests)) != f.entries || sum != f.sum) {
		err = damaged(fmt.Errorf("it should have %d entries of changes, and has %d, or older ones", f.entries, len(f.digests)))
	}
	return changes, depths, err
}

// each calls do with each entry of a bucket.
func (f *file) each(tx *bbolt.Tx, bucket string, do func(key, raw, record []byte) error) error {
	return tx.Bucket([]byte(bucket)).ForEach(func(key, raw []byte) error {
		record, err := f.box.open(bucket, key, raw)
		if err == nil {
			err = do(key, raw, record)
		}
		if err != nil {
			return damaged(fmt.Errorf("an entry of %q, %x: %w", bucket, key, err))
		}
		return nil
	})
}

// guard turns into errors what bbolt panics with, and what happens where a part of its file, which it
// has mapped into memory, can't be read. The text of a panic is left out, as it may quote values.
func guard(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			err = damaged(errPanic)
		}
	}()
	return do()
}

// errPanic says that bbolt panicked. It may hold locks for ever, so it is not called again.
var errPanic = errors.New("a part of it can't be read, or is not as it should be")

func damaged(err error) error { return fmt.Errorf("%w: %w", ErrDamaged, err) }

// syncFolder makes sure that a folder's entries are on disk. On Windows there is no such thing.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}
