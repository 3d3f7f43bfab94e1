package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

// A fault is what happens to a write of bbolt, or after it.
type fault string

const (
	failsFault   fault = "fails"                                     // nothing is written
	tornFault    fault = "is torn"                                   // half of it is, and then it fails
	writtenFault fault = "is written, and fails"                     // as it may be
	lostFault    fault = "is written, and the disk is gone for good" // what comes next seems to be written, and the next fsync fails
	brokenFault  fault = "is written, and then nothing can be"       // the next write or fsync fails
)

var faults = []fault{failsFault, tornFault, writtenFault, lostFault, brokenFault}

var errDisk = errors.New("no space left on device")

// onWrite puts itself between bbolt and its file: bbolt has a hook for its own tests, and offers no other.
func onWrite(db *bbolt.DB, do func(write func([]byte, int64) (int, error), file *os.File, b []byte, at int64) (int, error)) {
	fields := reflect.ValueOf(db).Elem()
	hook := (*func([]byte, int64) (int, error))(unsafe.Pointer(fields.FieldByName("ops").FieldByName("writeAt").UnsafeAddr()))
	file := *(**os.File)(unsafe.Pointer(fields.FieldByName("file").UnsafeAddr()))
	write := *hook
	*hook = func(b []byte, at int64) (int, error) { return do(write, file, b, at) }
}

// inject makes the write after so many others fail. The number of writes that are left is negative once that has happened.
func inject(t require.TestingT, db *bbolt.DB, f fault, after int) (left *int) {
	onWrite(db, func(write func([]byte, int64) (int, error), file *os.File, b []byte, at int64) (int, error) {
		after--
		if after != -1 {
			return write(b, at)
		}
		var instead *os.File
		switch f {
		case failsFault:
			return 0, errDisk
		case tornFault:
			n, _ := write(b[:len(b)/2], at)
			return n, errDisk
		case writtenFault:
			n, _ := write(b, at)
			return n, errDisk
		case lostFault: // what swallows writes has no fsync
			instead, _ = os.OpenFile(os.DevNull, os.O_RDWR, 0)
		case brokenFault: // nor has a pipe, which has no places to write to either
			var other *os.File
			instead, other, _ = os.Pipe()
			defer other.Close()
		}
		defer instead.Close()
		n, err := write(b, at)
		require.NoError(t, syscall.Dup3(int(instead.Fd()), int(file.Fd()), syscall.O_CLOEXEC))
		return n, err
	})
	return &after
}

// play makes one write fail, or what comes after it, while things are done to a journal, and returns false if it was over before.
//
// What was acknowledged before is in memory and stays there, nothing of what failed is, and the journal writes no more. The
// next start has all that was acknowledged, as attempted when it was made. What failed it has wholly or not at all.
func play(t require.TestingT, path string, f fault, after, length int, next func(model) step) (failed bool) {
	j, err := Open(path, options(""))
	require.NoError(t, err)
	defer func() { j.Close() }()
	left := inject(t, j.file.db, f, after)
	now, onDisk := newModel(), newModel()
	var tried *model // what the file was to hold when it failed
	sinces := make(map[uint64]time.Time)
	for i := 0; i < length && tried == nil; i++ {
		then := now.clone()
		wrote, err := next(now)(j, &then)
		if err != nil {
			require.Less(t, *left, 0, "nothing was wrong, and %v", err)
			require.ErrorIs(t, err, ErrFailed)
			require.ErrorContains(t, err, path)
			last := onDisk.clone()
			wrote.to(&last, then)
			tried = &last
			break
		}
		now = then
		wrote.to(&onDisk, now)
	}
	if tried == nil {
		require.NoError(t, j.Failure())
		return false
	}
	require.Empty(t, now.differs(j, sinces), "nothing of what failed counts")
	require.NotErrorIs(t, j.Failure(), ErrInPlace)
	require.NoFileExists(t, path)
	aside := must(os.ReadFile(path + failedSuffix))
	require.ErrorIs(t, j.Put("!a", set("tea", "late")), ErrFailed)
	require.ErrorIs(t, j.Attempted("!a", Attempt{Depth: 99}, nil), ErrFailed)
	require.ErrorIs(t, j.SetGeneration(7), ErrFailed)
	require.ErrorIs(t, j.Save(Known{}), ErrFailed)
	require.ErrorIs(t, j.Flush(), ErrFailed)
	_, err = j.Load("!a")
	require.ErrorIs(t, err, ErrFailed)
	require.Empty(t, now.differs(j, sinces))
	j.Done("!a", map[string]uint64{"tea": 1 << 40})
	now.done("!a", map[string]uint64{"tea": 1 << 40})
	require.Empty(t, now.differs(j, sinces), "what is in memory goes on")
	require.NoError(t, j.Close())
	require.Equal(t, aside, must(os.ReadFile(path+failedSuffix)), "it is not written again")

	j, err = Open(path, options(""))
	require.NoError(t, err)
	require.NoFileExists(t, path+failedSuffix)
	var differences []string
	for _, m := range []model{onDisk, *tried} {
		m = m.clone()
		m.readIn()
		differences = append(differences, m.differs(j, map[uint64]time.Time{})+m.notesDiffer(j))
	}
	require.Contains(t, differences, "")
	return true
}

func TestFaults(t *testing.T) {
	t.Parallel() // it waits for the disk
	folder, met := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(must(os.MkdirTemp(folder, "")), "memory.db")
		f, after := rapid.SampledFrom(faults).Draw(t, "fault"), rapid.IntRange(0, 40).Draw(t, "after")
		if play(t, path, f, after, 40, func(m model) step { return steps(t, m) }) {
			met++
		}
	})
	require.Positive(t, met)
}

// The same at each write of all that writes, one after the other.
func TestFaultAtEachWrite(t *testing.T) {
	t.Parallel() // it waits for the disk
	put := func(changes ...Change) step {
		return func(j *Journal, m *model) (wrote, error) {
			return m.put(j, "!a", changes), j.Put("!a", changes...)
		}
	}
	large := set("milk", string(make([]byte, 50_000)))
	script := []step{
		put(set("tea", "1"), large, Change{Key: "rum", Delete: true, Over: "before", Depth: 4}),
		func(j *Journal, m *model) (wrote, error) {
			at, seqs := Attempt{Depth: 5, ID: "id"}, map[string]uint64{"tea": 1, "milk": 2}
			return wrote{all: m.attempted("!a", at, seqs)}, j.Attempted("!a", at, seqs)
		},
		func(j *Journal, m *model) (wrote, error) {
			m.done("!a", map[string]uint64{"milk": 2})
			j.Done("!a", map[string]uint64{"milk": 2})
			m.refuse(name{"!a", "rum"}, 3, "why")
			j.Refuse("!a", "rum", 3, "why")
			m.notes["tea"] = "noted"
			return wrote{}, j.Save(Known{Notes: map[string]string{"tea": "noted"}})
		},
		func(j *Journal, m *model) (wrote, error) { return wrote{all: true}, j.Flush() },
		put(large, set("tea", "3")),
		func(j *Journal, m *model) (wrote, error) {
			return wrote{all: m.move("!a", "!b")}, j.Move("!a", "!b", Known{}, settleModelled)
		},
		func(j *Journal, m *model) (wrote, error) {
			m.number = 2
			return wrote{all: true}, j.SetGeneration(2)
		},
	}
	folder := t.TempDir()
	for _, f := range faults {
		writes := 0
		for i := 0; ; writes, i = writes+1, 0 {
			path := filepath.Join(folder, fmt.Sprint(f, writes))
			failed := play(t, path, f, writes, len(script), func(model) step {
				i++
				return script[i-1]
			})
			if !failed {
				break
			}
		}
		require.Greater(t, writes, 2*len(script), "most steps write some pages and then a meta page")
	}
}

// Power is lost while a transaction is under way: of the pages that were written since the last fsync any may be on disk, in part as well.
func TestPowerLoss(t *testing.T) {
	folder := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(must(os.MkdirTemp(folder, "")), "memory.db")
		j, err := Open(path, options(""))
		require.NoError(t, err)
		defer func() { j.Close() }()
		type written struct {
			b  []byte
			at int64
		}
		var writes []written
		onWrite(j.file.db, func(write func([]byte, int64) (int, error), _ *os.File, b []byte, at int64) (int, error) {
			writes = append(writes, written{append([]byte{}, b...), at})
			return write(b, at)
		})
		now, onDisk := newModel(), newModel()
		var before []byte
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			before, writes = must(os.ReadFile(path)), nil
			wrote, err := steps(t, now)(j, &now)
			require.NoError(t, err)
			if len(writes) == 0 || rapid.IntRange(0, 5).Draw(t, "lost") > 0 {
				wrote.to(&onDisk, now)
				continue
			}
			image := append(before, make([]byte, max(0, len(must(os.ReadFile(path)))-len(before)))...)
			pages, meta := writes[:len(writes)-1], writes[len(writes)-1]
			require.Less(t, meta.at, int64(2*os.Getpagesize()))
			synced := rapid.Bool().Draw(t, "synced")
			for _, w := range pages {
				for part := 0; part < len(w.b); part += 512 {
					if synced || rapid.Bool().Draw(t, "part") {
						copy(image[w.at+int64(part):], w.b[part:min(part+512, len(w.b))])
					}
				}
			}
			if synced {
				// A sector is written as a whole by most disks; bbolt does not rely upon it.
				n := rapid.IntRange(0, 100).Draw(t, "of meta")
				copy(image[meta.at:], meta.b[:n])
				if n >= pageHeader+metaSize {
					wrote.to(&onDisk, now)
				}
			}
			require.NoError(t, j.Close())
			require.NoError(t, os.WriteFile(path, image, 0o600))
			j, err = Open(path, options(""))
			require.NoError(t, err)
			difference := onDisk.differs(j, map[uint64]time.Time{}) + onDisk.notesDiffer(j)
			require.Empty(t, difference)
			return
		}
	})
}
