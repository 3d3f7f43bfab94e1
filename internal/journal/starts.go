package journal

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"
)

// A file may be a copy of one that is in use elsewhere, and be used itself before anybody notices. So the
// journal notes which starts have made changes, and each change says by which it was made: what is not of a start
// that the other file knows of is nobody else's.

// A Start is one of the starts that used a file.
type Start struct {
	ID    string `json:"id"`
	After uint64 `json:"after"` // the last Seq before it
}

// Copied is why a change of a copy is refused for good: it stood in the file when that was copied. It is kept to be
// looked at only, and is as good as none to whatever takes its place.
const Copied = "the journal is a copy, and the change was the original's to deliver"

// maxStarts is how many starts a journal knows of.
const maxStarts = 100

var startsSlot = slot{inNotes, "starts"}

// starts returns the starts that made changes.
func (f *file) starts() (starts []Start, err error) {
	err = f.view(func(tx *bbolt.Tx) error {
		record, err := f.record(tx, startsSlot)
		if err != nil || record == nil {
			return err
		}
		if err := json.Unmarshal(record, &starts); err != nil {
			return damaged(fmt.Errorf("the starts that are noted in it: %w", err))
		}
		return nil
	})
	return starts, err
}

// begins notes, with the first change that this start makes, that it makes some, and says whether that is to be written with
// the next transaction. The caller holds writing.
func (j *Journal) begins() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !knows(j.starts, j.start) {
		j.starts = latest(append(j.starts, Start{j.start, j.written.seq}))
		j.staged[startsSlot], _ = json.Marshal(j.starts) // numbers and letters: it never fails
	}
	_, due := j.staged[startsSlot]
	return due
}

// IsOfThisStart says whether the process that has the journal open has made a change.
func (j *Journal) IsOfThisStart(c Change) bool { return c.Start == j.start }

func latest(starts []Start) []Start { return starts[max(0, len(starts)-maxStarts):] }

func knows(starts []Start, id string) bool { return indexOf(starts, id) >= 0 }

func indexOf(starts []Start, id string) int {
	return slices.IndexFunc(starts, func(s Start) bool { return s.ID == id })
}

// Starts returns the last starts that made changes, in their order: those that are known elsewhere, then those
// of the file, then this one, whether it has made some or not.
func (j *Journal) Starts(elsewhere []Start) []Start {
	j.writing.Lock()
	defer j.writing.Unlock()
	own := slices.Clone(j.starts)
	if !knows(own, j.start) {
		own = append(own, Start{j.start, j.written.seq})
	}
	own = slices.DeleteFunc(own, func(s Start) bool { return knows(elsewhere, s.ID) })
	return latest(append(slices.Clone(elsewhere), own...))
}

// Fork makes the journal one of its own, with an ID that no other has, after it was found to be a copy of an
// original with these starts. The changes that stood in both are refused as [Copied]. All that is on disk
// when Fork returns nil.
func (j *Journal) Fork(original []Start) error {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	for room, changes := range j.changes {
		for _, c := range changes {
			if j.isCopied(c, original) {
				j.judge(room, c, Copied)
			}
		}
	}
	j.mu.Unlock()
	next := j.written
	next.id, next.generation = rand.Text(), 0
	return j.commit(transaction{head: next})
}

// isCopied says whether a change stands, or stood, in an original with these starts. Where that can't be
// told it does, unless this start made it.
func (j *Journal) isCopied(c *Change, original []Start) bool {
	switch {
	case stood(c, original):
		return true
	case knows(original, c.Start), len(original) > 0 && len(original) < maxStarts:
		return false
	}
	// The original may have forgotten the start, unless it knows of an earlier one.
	earlier := j.starts[:max(0, indexOf(j.starts, c.Start))]
	return c.Start != j.start && !slices.ContainsFunc(earlier, func(s Start) bool { return knows(original, s.ID) })
}

// stood says whether a change is known to stand, or to have stood, in a file that was used by these starts.
func stood(c *Change, in []Start) bool {
	i := indexOf(in, c.Start)
	return i >= 0 && (i == len(in)-1 || c.Seq <= in[i+1].After)
}
