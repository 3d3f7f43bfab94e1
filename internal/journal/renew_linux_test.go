package journal

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// breakDown makes the next write of a journal fail.
func breakDown(t *testing.T, j *Journal) {
	t.Helper()
	onWrite(j.file.db, func(func([]byte, int64) (int, error), *os.File, []byte, int64) (int, error) { return 0, errDisk })
	require.ErrorIs(t, j.Put(room, set("last", "1")), ErrFailed)
}

// fail makes a journal that failed with two changes, one of which was attempted.
func fail(t *testing.T, path, key string) *Journal {
	t.Helper()
	j := open(t, path, key)
	require.NoError(t, j.Save(Known{Notes: map[string]string{"token": "old"}}))
	require.NoError(t, j.SetGeneration(3))
	require.NoError(t, j.Put(room, set("tea", "1"), Change{Key: "milk", Value: []byte("2"), Over: "before", Depth: 8}))
	require.NoError(t, j.Attempted(room, Attempt{Depth: 5, ID: "id"}, map[string]uint64{"tea": 1}))
	breakDown(t, j)
	return j
}

func TestFailedFileIsReadIn(t *testing.T) {
	for _, key := range []string{"", passphrase} {
		path := newPath(t)
		j := fail(t, path, key)
		id := j.ID()
		require.ErrorContains(t, j.Failure(), path+failedSuffix)
		require.ErrorContains(t, j.Failure(), errDisk.Error())
		_, err := Open(path, options(key))
		require.ErrorIs(t, err, ErrInUse, "though its file is not")
		require.NoError(t, j.Close())
		failed := must(os.ReadFile(path + failedSuffix))
		require.NoError(t, os.WriteFile(path+newSuffix, []byte("half of a file"), 0o600)) // the process ended in the midst of that

		o, log := logged(key)
		j, err = Open(path, o)
		require.NoError(t, err)
		require.Contains(t, log(), "was read in")
		require.NoFileExists(t, path+failedSuffix)
		require.NoFileExists(t, path+newSuffix)
		require.Equal(t, id, j.ID())
		require.Equal(t, int64(3), j.Generation())
		require.Equal(t, int64(8), j.Depth(room))
		require.Len(t, j.Changes(room), 2)
		require.Equal(t, &Attempt{Depth: 5, ID: "id"}, get(t, j, "tea").Attempt)
		require.Equal(t, &Attempt{Depth: 8, Was: "=before"}, get(t, j, "milk").Attempt, "it loses to what was written since")
		note, err := j.Note("token")
		require.NoError(t, err)
		require.Equal(t, "old", note)

		// The process ended before it had removed the failed file, or that could not be done: what is done stays done.
		for _, c := range j.Changes(room) {
			j.Done(room, map[string]uint64{c.Key: c.Seq})
		}
		require.NoError(t, j.Put(room, set("rum", "3")))
		require.NoError(t, j.Close())
		require.NoError(t, os.WriteFile(path+failedSuffix, failed, 0o600))
		j = open(t, path, key)
		require.NoFileExists(t, path+failedSuffix)
		require.Len(t, j.Changes(room), 1)
		require.Nil(t, get(t, j, "rum").Attempt)

		// It fails again.
		breakDown(t, j)
		require.NoError(t, j.Close())
		j = open(t, path, key)
		require.Len(t, j.Changes(room), 1)
		require.NotNil(t, get(t, j, "rum").Attempt)
		require.Equal(t, id, j.ID())
	}
}

// Somebody puts a backup in the place of the file that failed, and it is used before that is noticed: both have changes.
func TestBothFiles(t *testing.T) {
	path := newPath(t)
	j := open(t, path, "")
	require.NoError(t, j.Put(room, set("tea", "old"), Change{Key: "milk", Delete: true, Over: "before"}, set("both", "1"), set("gone", "1")))
	require.NoError(t, j.SetGeneration(2))
	require.NoError(t, j.Save(Known{Notes: map[string]string{"token": "backup"}}))
	require.NoError(t, j.Flush())
	backup := must(os.ReadFile(path))
	require.NoError(t, j.Attempted(room, Attempt{Depth: 9, ID: "id"}, map[string]uint64{"both": 3}))
	j.Done(room, map[string]uint64{"gone": 4})
	require.NoError(t, j.Put(room, Change{Key: "tea", Value: []byte("new"), Depth: 4}))
	require.NoError(t, j.SetGeneration(5))
	require.NoError(t, j.Save(Known{Notes: map[string]string{"token": "failed"}}))
	require.NoError(t, j.Flush())
	breakDown(t, j)
	id := j.ID()
	require.NoError(t, j.Close())
	require.NoError(t, os.WriteFile(path, backup, 0o600))
	require.NoError(t, os.Rename(path+failedSuffix, path+".kept"))
	j = open(t, path, "")
	require.NoError(t, j.Put(room, set("rum", "since"))) // has the Seq that the other file gave to tea
	require.NoError(t, j.Close())
	require.NoError(t, os.Rename(path+".kept", path+failedSuffix))

	j = open(t, path, "")
	changes := j.Changes(room)
	require.Len(t, changes, 4, "without what was delivered before the failure")
	for i, c := range changes {
		require.NotNil(t, c.Attempt, "of none is it known what became of it")
		require.True(t, i == 0 || c.Seq > changes[i-1].Seq)
	}
	require.Equal(t, "new", string(get(t, j, "tea").Value))
	require.Equal(t, &Attempt{Depth: 4, Was: "="}, get(t, j, "tea").Attempt)
	require.Equal(t, &Attempt{Depth: 9, ID: "id"}, get(t, j, "both").Attempt, "the first one, whichever file knows of it")
	require.Equal(t, &Attempt{Was: "=before"}, get(t, j, "milk").Attempt)
	require.Equal(t, "since", string(get(t, j, "rum").Value))
	require.Equal(t, int64(9), j.Depth(room))
	require.Equal(t, int64(5), j.Generation())
	require.Equal(t, id, j.ID())
	note, err := j.Note("token")
	require.NoError(t, err)
	require.Equal(t, "backup", note, "from one file, with its states")

	require.Equal(t, uint64(5), get(t, j, "tea").Seq, "as it was, which the account may know as outdated")
	require.Greater(t, get(t, j, "rum").Seq, uint64(seqsOfOne))
	known := j.Starts(nil)
	require.NoError(t, j.Close())
	j = open(t, path, "")
	require.NoError(t, j.Fork(known))
	for _, c := range j.Changes(room) {
		require.Equal(t, Copied, c.Refused, "the original has it as well")
	}
}

func TestMerge(t *testing.T) {
	at := &Attempt{Depth: 1}
	early, late := &Change{Key: "tea", Seq: 1, Value: []byte("1"), Attempt: at}, &Change{Key: "tea", Seq: 2, Value: []byte("2")}
	for _, m := range []*Change{merge(early, late), merge(late, early)} {
		require.Equal(t, "2", string(m.Value))
		require.Nil(t, m.Attempt)
	}
	require.True(t, merge(&Change{Seq: 2, Delete: true}, early).Forced)
	require.True(t, merge(&Change{Seq: 2, Delete: true, Forced: true}, &Change{Seq: 1, Delete: true}).Forced)
	require.False(t, merge(&Change{Seq: 2, Delete: true}, &Change{Seq: 1, Delete: true}).Forced)
	require.False(t, merge(&Change{Seq: 2, Delete: true}, &Change{Seq: 2, Delete: true}).Forced)
	require.Equal(t, at, merge(early, &Change{Key: "tea", Seq: 1}).Attempt)
	require.Equal(t, at, merge(&Change{Key: "tea", Seq: 1}, early).Attempt)
}

// What can't be read in is not passed over.
func TestFailedFileOfNoUse(t *testing.T) {
	for says, change := range map[string]func(path string, o *Options) error{
		"another store_key": func(_ string, o *Options) error { o.Key = "another"; return nil },
		"belongs to":        func(_ string, o *Options) error { o.Account = "@other:example.org"; return nil },
		"damaged":           func(path string, _ *Options) error { return os.Truncate(path, 10_000) },
		"empty":             func(path string, _ *Options) error { return os.Truncate(path, 0) },
	} {
		path := newPath(t)
		require.NoError(t, fail(t, path, passphrase).Close())
		o := options(passphrase)
		require.NoError(t, change(path+failedSuffix, &o))
		for range 2 {
			_, err := Open(path, o)
			require.ErrorContains(t, err, says)
			require.ErrorContains(t, err, path+failedSuffix)
			require.NoFileExists(t, path)
			require.FileExists(t, path+failedSuffix)
		}
	}
}

// The file can't be renamed: the error says so until it can.
func TestFailedInPlace(t *testing.T) {
	path := newPath(t)
	j := open(t, path, "")
	require.NoError(t, j.Put(room, set("tea", "1")))
	inTheWay := filepath.Join(path+failedSuffix, "in the way")
	require.NoError(t, os.MkdirAll(inTheWay, 0o700))
	onWrite(j.file.db, func(func([]byte, int64) (int, error), *os.File, []byte, int64) (int, error) { return 0, errDisk })
	for range 2 {
		err := j.Put(room, set("tea", "2"))
		require.ErrorIs(t, err, ErrFailed)
		require.ErrorIs(t, err, ErrInPlace)
		require.ErrorIs(t, j.Failure(), ErrInPlace)
		require.FileExists(t, path)
	}
	require.NoError(t, os.RemoveAll(path+failedSuffix))
	err := j.Put(room, set("tea", "3"))
	require.ErrorIs(t, err, ErrFailed)
	require.NotErrorIs(t, err, ErrInPlace)
	require.NoFileExists(t, path)
	require.FileExists(t, path+failedSuffix)
	require.Equal(t, "1", string(get(t, j, "tea").Value))
}

// Close is the last chance, and says what it could not write.
func TestFailedAtClose(t *testing.T) {
	path := newPath(t)
	j := open(t, path, "")
	require.NoError(t, j.Put(room, set("tea", "1")))
	j.Done(room, map[string]uint64{"tea": 1})
	onWrite(j.file.db, func(func([]byte, int64) (int, error), *os.File, []byte, int64) (int, error) { return 0, errDisk })
	require.ErrorIs(t, j.Close(), ErrFailed)
	j = open(t, path, "")
	require.Len(t, j.Changes(room), 1)
	require.NotNil(t, get(t, j, "tea").Attempt, "so it does no harm that it is there again")
}

// A failed file is sealed as it was, and so is the one that it is read in to.
func TestNothingStandsInTheClearAfterAFailure(t *testing.T) {
	path := newPath(t)
	j := open(t, path, passphrase)
	putSecrets(t, j)
	breakDown(t, j)
	require.NoError(t, j.Close())
	requireInFile(t, path+failedSuffix, false)
	requireInFile(t, path+".lock", false)

	j = open(t, path, passphrase)
	c, ok := j.Get(room, "tea-key")
	require.True(t, ok)
	require.Equal(t, "tea-value", string(c.Value))
	requireInFile(t, path, false)
}
