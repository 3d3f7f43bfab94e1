package journal

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/bbolt"
)

// A transaction is what is to be written at once.
type transaction struct {
	changes map[name]*Change // nil: is removed
	depths  map[string]int64 // by room
	head    head
	alone   bool // what was left for a later transaction is left: somebody waits for this one
}

var none = map[slot][]byte{} // nothing is ever put in here

// commit writes a transaction, along with what was left for it. The caller holds writing.
func (j *Journal) commit(t transaction) error {
	j.setAside()
	j.mu.Lock()
	if err := j.usable(); err != nil {
		j.doubt(t) // its caller is told the same as the one whose write failed
		j.mu.Unlock()
		return err
	}
	flying := none
	if !t.alone {
		changes := make(map[name]*Change, len(t.changes)+len(j.behind))
		for n := range j.behind {
			changes[n] = j.changes[n.room][n.key]
		}
		maps.Copy(changes, t.changes)
		t.changes = changes
		clear(j.behind)
		flying, j.staged = j.staged, make(map[slot][]byte)
	}
	j.flying = flying
	j.mu.Unlock()

	err := guard(func() error {
		return j.file.db.Update(func(tx *bbolt.Tx) error { return j.file.write(tx, &t, flying) })
	})
	j.mu.Lock()
	j.flying = nil
	if err != nil {
		j.doubt(t)
	}
	j.mu.Unlock()
	if err != nil {
		j.written.seq = t.head.seq
		j.fail(err)
		return j.Failure()
	}
	j.written = t.head
	return nil
}

// doubt notes of a transaction that failed that the file may hold its changes, or what they were to take the place of. The
// caller holds mu.
func (j *Journal) doubt(t transaction) {
	for n := range t.changes {
		j.behind[n] = true
	}
}

// write does what a transaction says, and brings its head up to date.
func (f *file) write(tx *bbolt.Tx, t *transaction, entries map[slot][]byte) error {
	// set puts a record in its place, or removes it, and keeps count.
	set := func(bucket string, key, record []byte) error {
		b, at := tx.Bucket([]byte(bucket)), slot{bucket, string(key)}
		if old, ok := f.digests[at]; ok {
			t.head.entries, t.head.sum = t.head.entries-1, t.head.sum^old
		}
		if record == nil {
			delete(f.digests, at)
			return b.Delete(key)
		}
		raw := f.box.seal(bucket, key, record)
		f.digests[at] = digest(bucket, key, raw) // if this fails, nothing more is written
		t.head.entries, t.head.sum = t.head.entries+1, t.head.sum^f.digests[at]
		return b.Put(key, raw)
	}
	for n, c := range t.changes {
		at, ok := f.names[n]
		if !ok {
			at = f.box.name(n)
		}
		var record []byte
		if c != nil {
			f.names[n], record = at, encodeChange(n.room, c)
		} else {
			delete(f.names, n)
		}
		if err := set(inChanges, at, record); err != nil {
			return err
		}
	}
	for room, depth := range t.depths {
		if err := set(inDepths, []byte(room), encodeNumber(depth)); err != nil {
			return err
		}
	}
	for at, record := range entries {
		b, key := tx.Bucket([]byte(at.bucket)), []byte(at.key)
		if record == nil {
			if err := b.Delete(key); err != nil {
				return err
			}
		} else if err := b.Put(key, f.box.seal(at.bucket, key, record)); err != nil {
			return err
		}
	}
	return tx.Bucket([]byte(inFile)).Put(headKey, f.box.seal(inFile, headKey, t.head.encode()))
}

// digest returns what an entry adds to the head's sum.
func digest(bucket string, key, raw []byte) uint64 {
	w := make(writer, 0, len(bucket)+len(key)+len(raw)+2*binary.MaxVarintLen32)
	w.text(bucket)
	w.bytes(key)
	hash := sha256.Sum256(append(w, raw...))
	return binary.BigEndian.Uint64(hash[:])
}

// maxName is how long names of rooms and the like may be here: four times what Matrix allows.
const maxName = 1020

// checkNames returns an error if a name can't be one of a room, an alias, an event or a note.
func checkNames(names ...string) error {
	if i := slices.IndexFunc(names, func(name string) bool { return name == "" || len(name) > maxName }); i >= 0 {
		return fmt.Errorf("the journal takes no name of %d bytes for a room or what belongs to one", len(names[i]))
	}
	return nil
}
