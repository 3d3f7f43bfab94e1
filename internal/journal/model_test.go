package journal

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A model is what a journal is to be, without a disk. A change's Since is left out, and when
// it is the same is said with the Seq of the key's oldest change instead.
type model struct {
	changes map[name]modelled
	depths  map[string]int64
	notes   map[string]string
	seq     uint64
	number  int64 // the generation
}

type modelled struct {
	Change
	oldest uint64
}

func newModel() model {
	return model{changes: map[name]modelled{}, depths: map[string]int64{}, notes: map[string]string{}}
}

func (m model) clone() model {
	m.changes, m.depths, m.notes = maps.Clone(m.changes), maps.Clone(m.depths), maps.Clone(m.notes)
	return m
}

func (m *model) put(j *Journal, room string, changes []Change) (w wrote) {
	w.all = !knows(j.starts, j.start) // which has to be on disk before its changes are
	for _, c := range changes {
		w.alone = append(w.alone, name{room, c.Key})
		m.seq++
		c.Seq, c.Start = m.seq, j.start
		now := modelled{Change: c, oldest: m.seq}
		if was, ok := m.changes[name{room, c.Key}]; ok && was.Refused != Copied {
			now.oldest = was.oldest
			now.Forced = c.Delete && (was.Forced || !was.Delete)
		}
		m.changes[name{room, c.Key}] = now
	}
	return w
}

func (m *model) attempted(room string, at Attempt, seqs map[string]uint64) (written bool) {
	for key, seq := range seqs {
		if c, ok := m.changes[name{room, key}]; ok && c.Seq == seq && c.Attempt == nil {
			c.Attempt = &at
			m.changes[name{room, key}] = c
			written = true
		}
	}
	if at.Depth > m.depths[room] {
		m.depths[room] = at.Depth
		written = true
	}
	return written
}

func (m *model) done(room string, seqs map[string]uint64) {
	for key, seq := range seqs {
		if c, ok := m.changes[name{room, key}]; ok && c.Seq <= seq {
			delete(m.changes, name{room, key})
		}
	}
}

func (m *model) refuse(n name, seq uint64, why string) {
	if c, ok := m.changes[n]; ok && c.Seq == seq {
		c.Refused = why
		m.changes[n] = c
	}
}

func (m *model) retry(room string) {
	for n, c := range m.changes {
		if n.room == room && c.Refused != Copied {
			c.Refused = ""
			m.changes[n] = c
		}
	}
}

// move settles as settleModelled does.
func (m *model) move(from, to string) (written bool) {
	for n, c := range m.changes {
		if n.room != from {
			continue
		}
		written = true
		delete(m.changes, n)
		left, n := true, name{to, n.key}
		there, ok := m.changes[n]
		late := c
		if c.Refused != Copied {
			late.Change, left = settleModelled(c.Change)
			late.Refused = ""
		}
		if !left || ok && late.Refused == Copied && there.Refused != Copied {
			continue
		}
		if early := there; ok && (early.Refused != Copied || late.Refused == Copied) {
			if early.Seq > late.Seq {
				early, late = late, early
			}
			if early.Refused != Copied {
				late.Forced = late.Forced || late.Delete && (early.Forced || !early.Delete)
				late.oldest = min(late.oldest, early.oldest)
			}
		}
		m.changes[n] = late
	}
	if m.depths[from] > m.depths[to] {
		m.depths[to] = m.depths[from]
		written = true
	}
	return written
}

// settleModelled takes some changes for done, and takes their attempts from others.
func settleModelled(c Change) (Change, bool) {
	if len(c.Value) == 30 {
		c.Attempt = nil
	}
	return c, len(c.Value) != 1
}

// readIn is what becomes of a file that failed once it was read in.
func (m *model) readIn() {
	m.seq += seqsOfOne
	for n, c := range m.changes {
		if c.Attempt == nil && !c.Blind {
			c.Attempt = &Attempt{Depth: c.Depth, Was: "=" + c.Over}
			m.depths[n.room] = max(m.depths[n.room], c.Depth)
		}
		m.changes[n] = c
	}
}

var (
	modelRooms = []string{"!a", "!b", "!c"}
	modelKeys  = []string{"tea", "milk", "rum", ""}
)

// differs returns how a journal differs from the model, "" if it does not. sinces has the time for each oldest change
// that was seen so far.
func (m model) differs(j *Journal, sinces map[uint64]time.Time) string {
	count, refused := 0, 0
	waiting := make(map[string]bool)
	for _, room := range modelRooms {
		var last uint64
		for _, c := range j.Changes(room) {
			want, ok := m.changes[name{room, c.Key}]
			got, there := j.Get(room, c.Key)
			if !ok || !there || c.Seq <= last || got.Seq != c.Seq {
				return fmt.Sprintf("change %+v of %s: %t %t, and %d", c, room, ok, there, last)
			}
			last = c.Seq
			if since, seen := sinces[want.oldest]; seen && !since.Equal(c.Since) {
				return fmt.Sprintf("%s %q is of %s and not %s", room, c.Key, c.Since, since)
			}
			sinces[want.oldest] = c.Since
			c.Since = time.Time{}
			if fmt.Sprintf("%+v %+v", c, c.Attempt) != fmt.Sprintf("%+v %+v", withAttempt(c, want.Change), want.Attempt) {
				return fmt.Sprintf("%s: %+v %+v is not %+v %+v", room, c, c.Attempt, want.Change, want.Attempt)
			}
			if c.Refused == "" {
				count++
				waiting[room] = true
			} else {
				refused++
			}
		}
		if j.Depth(room) != m.depths[room] {
			return fmt.Sprintf("depth %d of %s is not %d", j.Depth(room), room, m.depths[room])
		}
	}
	c, r, _ := j.Pending()
	if c != count || r != refused || c+r != len(m.changes) {
		return fmt.Sprintf("%d and %d pending, not %d and %d, of %d", c, r, count, refused, len(m.changes))
	}
	if rooms := j.Rooms(); len(rooms) != len(waiting) {
		return fmt.Sprintf("rooms %v, and %v wait", rooms, waiting)
	}
	if j.Generation() != m.number {
		return fmt.Sprintf("generation %d is not %d", j.Generation(), m.number)
	}
	return ""
}

// withAttempt returns want with the pointer of c, so that the two print alike.
func withAttempt(c, want Change) Change {
	want.Attempt = c.Attempt
	return want
}

// notesDiffer does the same for what is read from the disk.
func (m model) notesDiffer(j *Journal) string {
	for _, key := range modelKeys[:3] {
		note, err := j.Note(key)
		if err != nil || note != m.notes[key] {
			return fmt.Sprintf("note %q of %s, not %q: %v", note, key, m.notes[key], err)
		}
	}
	return ""
}

// wrote is what a journal was to write: all that it had in memory, or some changes alone.
type wrote struct {
	all   bool
	alone []name
}

// to notes on the model of what is on disk what was written of the one of what is in memory.
func (w wrote) to(disk *model, now model) {
	if w.all {
		*disk = now.clone()
	}
	for _, n := range w.alone {
		disk.changes[n], disk.seq = now.changes[n], now.seq
	}
}

// A step is one thing that is done to a journal and to its model.
type step func(j *Journal, m *model) (wrote wrote, err error)

// steps returns what can happen next.
func steps(t *rapid.T, m model) step {
	room := rapid.SampledFrom(modelRooms).Draw(t, "room")
	draw := func() map[string]uint64 {
		seqs := make(map[string]uint64)
		for _, key := range modelKeys {
			if c, ok := m.changes[name{room, key}]; ok && rapid.Bool().Draw(t, "with "+key) {
				seqs[key] = c.Seq - uint64(rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "late"))
			}
		}
		return seqs
	}
	switch rapid.SampledFrom([]string{"put", "put", "put", "attempt", "attempt", "done", "done", "refuse", "retry", "move", "note", "flush", "number"}).Draw(t, "step") {
	case "put":
		changes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Change {
			c := Change{
				Key: rapid.SampledFrom(modelKeys).Draw(t, "key"), Over: rapid.SampledFrom([]string{"", "before"}).Draw(t, "over"),
				Depth: rapid.Int64Range(0, 40).Draw(t, "heard"), Delete: rapid.Bool().Draw(t, "delete"), Blind: rapid.Bool().Draw(t, "blind"),
			}
			if !c.Delete {
				// Sometimes too large for a page, so that the file grows.
				c.Value = make([]byte, rapid.SampledFrom([]int{0, 1, 30, 9000}).Draw(t, "size"))
			}
			return c
		}), 0, 3).Draw(t, "changes")
		return func(j *Journal, m *model) (wrote, error) {
			return m.put(j, room, changes), j.Put(room, changes...)
		}
	case "attempt":
		at, seqs := Attempt{Depth: rapid.Int64Range(1, 40).Draw(t, "depth"), ID: "id"}, draw()
		return func(j *Journal, m *model) (wrote, error) {
			return wrote{all: m.attempted(room, at, seqs)}, j.Attempted(room, at, seqs)
		}
	case "done":
		seqs := draw()
		return func(j *Journal, m *model) (wrote, error) {
			m.done(room, seqs)
			j.Done(room, seqs)
			return wrote{}, nil
		}
	case "refuse":
		seqs := draw()
		return func(j *Journal, m *model) (wrote, error) {
			for key, seq := range seqs {
				m.refuse(name{room, key}, seq, "forbidden")
				j.Refuse(room, key, seq, "forbidden")
			}
			return wrote{}, nil
		}
	case "retry":
		return func(j *Journal, m *model) (wrote, error) {
			m.retry(room)
			j.Retry(room, All)
			return wrote{}, nil
		}
	case "move":
		to := rapid.SampledFrom(slices.DeleteFunc(slices.Clone(modelRooms), func(r string) bool { return r == room })).Draw(t, "to")
		return func(j *Journal, m *model) (wrote, error) {
			m.notes["tea"] = "moved to " + to
			return wrote{all: m.move(room, to)}, j.Move(room, to, Known{Notes: map[string]string{"tea": "moved to " + to}}, settleModelled)
		}
	case "note":
		key, note := rapid.SampledFrom(modelKeys[:3]).Draw(t, "key"), rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "note")
		return func(j *Journal, m *model) (wrote, error) {
			m.notes[key] = note
			return wrote{}, j.Save(Known{Notes: map[string]string{key: note}})
		}
	case "flush":
		return func(j *Journal, m *model) (wrote, error) { return wrote{all: true}, j.Flush() }
	}
	number := rapid.Int64().Draw(t, "number")
	return func(j *Journal, m *model) (wrote, error) {
		m.number = number
		return wrote{all: true}, j.SetGeneration(number)
	}
}

// Whatever is done, a journal is as its model, also after it was closed and opened, and after the
// process ended at any moment between two steps.
func TestModel(t *testing.T) {
	t.Parallel() // it waits for the disk
	folder := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(must(os.MkdirTemp(folder, "")), "memory.db")
		j, err := Open(path, options(""))
		require.NoError(t, err)
		defer func() { j.Close() }()
		now, onDisk := newModel(), newModel()
		sinces := make(map[uint64]time.Time)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 11).Draw(t, "or") {
			case 0: // a start after an orderly end
				require.NoError(t, j.Close())
				onDisk = now.clone()
				j, err = Open(path, options(""))
				require.NoError(t, err)
			case 1: // a start after a sudden one
				content := must(os.ReadFile(path))
				require.NoError(t, j.Close())
				require.NoError(t, os.WriteFile(path, content, 0o600))
				j, err = Open(path, options(""))
				require.NoError(t, err)
				now = onDisk.clone()
			default:
				wrote, err := steps(t, now)(j, &now)
				require.NoError(t, err)
				wrote.to(&onDisk, now)
			}
			require.Empty(t, now.differs(j, sinces))
			require.Empty(t, now.notesDiffer(j))
		}
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
