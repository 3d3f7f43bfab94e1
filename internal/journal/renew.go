package journal

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"
)

// seqsOfOne is more than one transaction gives. The one that failed may have given some of which its file does not know.
const seqsOfOne = 1 << 32

// openCurrent opens the file of a journal as it is to be used. If there is none, or a failed one is to be
// read in, or a sealed one is to take the place of one in the clear, a new file is written and takes its place at
// once: so none is ever half made, whenever the process ends. The caller has the lock.
func openCurrent(path string, options Options) (*file, error) {
	current, err := openIfThere(path, options, false)
	if err != nil {
		return nil, err
	}
	failed, err := openIfThere(path+failedSuffix, options, true)
	if err != nil {
		closeAll(current)
		return nil, err
	}
	if failed != nil && current != nil && bytes.Equal(failed.salt, current.adopted) {
		closeAll(failed) // it was read in, and the process ended before it was removed
		failed = nil
		removeFailed(path, options.Log)
	}
	seal := current != nil && current.foreign(options)
	if current != nil && failed == nil && !seal {
		return current, nil
	}
	made := path + newSuffix
	err = makeFile(made, current, failed, options)
	closeAll(current, failed)
	if err == nil {
		err = rename(made, path)
	}
	if err != nil {
		_ = os.Remove(made) // it takes up room that is needed
		return nil, fmt.Errorf("making %s: %w", made, err)
	}
	log := options.Log.WithField("file", path)
	if failed != nil {
		log.Warn("The journal failed in an earlier run; what was not delivered then was read in.")
		removeFailed(path, options.Log)
	}
	if seal {
		log.Info("The journal is sealed from now on.")
	}
	return openFile(path, options, false)
}

// openIfThere returns nil for a file that does not exist.
func openIfThere(path string, options Options, reading bool) (*file, error) {
	f, err := openFile(path, options, reading)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, &fileError{path, err}
	}
	return f, nil
}

// closeAll closes files that were read. That this fails has no consequence.
func closeAll(files ...*file) {
	for _, f := range files {
		if f != nil {
			_ = f.close()
		}
	}
}

// removeFailed removes a failed file that was read in. Should it come back, the file that read it in knows it.
func removeFailed(path string, log logrus.FieldLogger) {
	err := os.Remove(path + failedSuffix)
	if err == nil {
		err = syncFolder(path)
	}
	if err != nil {
		log.WithError(err).Warn("The journal's failed file was read in and can be removed.")
	}
}

// makeFile makes a file with all that is in the files it is made of, either of which may be nil.
func makeFile(path string, current, failed *file, options Options) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	random := make([]byte, 2*saltSize)
	rand.Read(random) // never fails: it ends the process instead
	h := header{account: options.Account, salt: random[:saltSize]}
	t := transaction{
		head:    head{id: hex.EncodeToString(random[saltSize:])},
		changes: make(map[name]*Change), depths: make(map[string]int64),
	}
	var before []Start                              // that used the file that failed, where a backup has taken its place
	for _, from := range []*file{failed, current} { // where they differ, the latter has the last word
		if from == nil {
			continue
		}
		if from.id != t.head.id || from.generation > t.head.generation {
			t.head.id, t.head.generation = from.id, from.generation
		}
		t.head.seq = max(t.head.seq, from.seq)
		h.adopted = from.adopted
		changes, depths, err := from.changes()
		if err != nil {
			return err
		}
		if len(changes) > 0 && from.foreign(options) {
			return &fileError{from.path, errors.New("it has changes that are not sealed, and a store_key is set: " +
				"start without one until they are delivered, or move it away and do without them")}
		}
		for room, depth := range depths {
			t.depths[room] = max(t.depths[room], depth)
		}
		for room, byKey := range changes {
			for key, c := range byKey {
				n := name{room, key}
				if t.changes[n] == nil && stood(c, before) {
					continue // it was delivered before the failure
				}
				t.changes[n] = merge(c, t.changes[n])
			}
		}
		if from == failed && !from.foreign(options) {
			before, _ = from.starts() // if these are damaged, nothing is left out
		}
	}
	if failed != nil {
		h.adopted = failed.salt
		for n, c := range t.changes {
			if c.Attempt == nil && !c.Blind { // it would lose to all that was there before it
				c.Attempt = &Attempt{Depth: c.Depth, Was: "=" + c.Over}
				t.depths[n.room] = max(t.depths[n.room], c.Depth)
			}
		}
	}
	entries := make(map[slot][]byte)
	if failed != nil {
		t.head.seq += seqsOfOne
	}
	if failed != nil && current != nil {
		entries[startsSlot], _ = json.Marshal(t.startAnew(before)) // numbers and letters: it never fails
	}

	box, err := newBox(h.salt, options.Key)
	if err != nil {
		return err
	}
	if options.Key != "" {
		h.check = box.seal(inFile, checkKey, h.checked())
	}
	db, err := openBolt(path, false)
	if err != nil {
		return err
	}
	made := newFile(path, db)
	made.header, made.box = h, box
	err = guard(func() error {
		return db.Update(func(tx *bbolt.Tx) error {
			for _, bucket := range append([]string{inFile, inChanges, inDepths}, kept...) {
				if _, err := tx.CreateBucket([]byte(bucket)); err != nil {
					return err
				}
			}
			if err := tx.Bucket([]byte(inFile)).Put(headerKey, h.encode()); err != nil {
				return err
			}
			// Of one of them, as what is known in a file goes together.
			if known := cmp.Or(current, failed); known != nil && !known.foreign(options) {
				if err := made.copyKept(tx, known, options.Log.WithField("file", path)); err != nil {
					return err
				}
			}
			return made.write(tx, &t, entries)
		})
	})
	if errors.Is(err, errPanic) {
		return err
	}
	return cmp.Or(err, made.close())
}

// startAnew has what was changed in a file since it was put in the place of one that these starts had used made by a start
// of its own, and returns all starts then: both files may have given a Seq.
func (t *transaction) startAnew(before []Start) []Start {
	anew := Start{rand.Text(), t.head.seq}
	names := slices.DeleteFunc(slices.Collect(maps.Keys(t.changes)), func(n name) bool { return knows(before, t.changes[n].Start) })
	slices.SortFunc(names, func(a, b name) int {
		return cmp.Or(cmp.Compare(t.changes[a].Seq, t.changes[b].Seq), cmp.Compare(a.room, b.room), cmp.Compare(a.key, b.key))
	})
	for _, n := range names {
		t.head.seq++
		t.changes[n].Seq, t.changes[n].Start = t.head.seq, anew.ID
	}
	return latest(append(before, anew))
}

// foreign says whether anybody may have written what is in the file, though it was to be sealed: of such a one
// only numbers are taken.
func (f *file) foreign(options Options) bool { return options.Key != "" && !f.sealed() }

// merge returns the change that counts where a key may have one in each of two files: the later one, with the first attempt of
// either if they are the same.
func merge(a, b *Change) *Change {
	if b == nil {
		return a
	}
	if a.Seq < b.Seq {
		a, b = b, a
	}
	m := a.onto(b)
	m.Forced = m.Forced || a.Forced
	if a.Seq == b.Seq {
		m.Forced = a.Forced
		m.Attempt = cmp.Or(a.Attempt, b.Attempt)
	}
	return m
}

// copyKept copies what is read only when it is asked for. What is damaged is left out: it can be had from the homeserver.
func (f *file) copyKept(tx *bbolt.Tx, from *file, log logrus.FieldLogger) error {
	return from.view(func(source *bbolt.Tx) error {
		for _, bucket := range kept {
			b := tx.Bucket([]byte(bucket))
			err := source.Bucket([]byte(bucket)).ForEach(func(key, raw []byte) error {
				record, err := from.box.open(bucket, key, raw)
				if err != nil {
					log.WithError(err).Warnf("The journal's entry %q of %q is damaged, and left out.", key, bucket)
					return nil
				}
				return b.Put(key, f.box.seal(bucket, key, record))
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}
