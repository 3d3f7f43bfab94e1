package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	"go.uber.org/goleak"
)

const (
	account    = "@bot:example.org"
	room       = "!room:example.org"
	passphrase = "correct horse battery staple"
)

func TestMain(m *testing.M) {
	victim()
	goleak.VerifyTestMain(m)
}

// options returns the options of a journal whose log nobody looks at.
func options(key string) Options {
	log, _ := test.NewNullLogger()
	return Options{Account: account, Key: key, Log: log}
}

// logged returns options with a log that is looked at.
func logged(key string) (Options, func() string) {
	log, hook := test.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	return Options{Account: account, Key: key, Log: log}, func() string {
		var lines bytes.Buffer
		for _, entry := range hook.AllEntries() {
			line, _ := entry.String()
			lines.WriteString(line)
		}
		return lines.String()
	}
}

// newPath returns where a test may make a journal.
func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "memory.db") }

// open opens a journal that is closed when the test ends.
func open(t testing.TB, path, key string) *Journal {
	t.Helper()
	j, err := Open(path, options(key))
	require.NoError(t, err)
	t.Cleanup(func() { j.Close() })
	return j
}

// set returns a change that sets a key.
func set(key, value string) Change { return Change{Key: key, Value: []byte(value)} }

func TestWhatWasPutIsThereAgain(t *testing.T) {
	for _, key := range []string{"", passphrase} {
		path := newPath(t)
		j := open(t, path, key)
		require.Equal(t, key != "", j.CanSeal())
		require.NoError(t, j.Put(room, set("tea", "1"), Change{Key: "\xff", Value: []byte{0}, Over: "\xfe", Depth: 7}, Change{Key: "milk", Delete: true, Over: "2"}))
		require.NoError(t, j.Attempted(room, Attempt{Depth: 12, ID: "AAAAAAAAAAAAAAAA", Was: "0"}, map[string]uint64{"tea": 1}))
		j.Refuse(room, "milk", 3, "forbidden")
		require.NoError(t, j.SetGeneration(4))
		known := Known{
			Rooms: map[string][]byte{room: []byte("state")}, Aliases: map[string]string{"#tea:example.org": room},
			Events: map[string]map[string][]byte{room: {"$event": []byte("cipher")}}, Notes: map[string]string{"token": "s1"},
		}
		require.NoError(t, j.Save(known))
		requireKnown := func() {
			t.Helper()
			state, err := j.Load(room)
			require.NoError(t, err)
			require.Equal(t, "state", string(state))
			event, err := j.Event(room, "$event")
			require.NoError(t, err)
			require.Equal(t, "cipher", string(event))
			note, err := j.Note("token")
			require.NoError(t, err)
			require.Equal(t, "s1", note)
			aliases, err := j.Aliases() // which writes it
			require.NoError(t, err)
			require.Equal(t, map[string]string{"#tea:example.org": room}, aliases)
		}
		requireKnown() // before it is written, and
		id, changes := j.ID(), j.Changes(room)
		require.NoError(t, j.Close())
		require.Equal(t, changes, j.Changes(room), "what is in memory can be read")
		require.ErrorIs(t, j.Put(room, set("tea", "2")), ErrClosed)
		require.ErrorIs(t, j.Save(known), ErrClosed)

		j = open(t, path, key)
		requireKnown() // from the disk
		require.Equal(t, changes, j.Changes(room))
		require.Equal(t, &Attempt{Depth: 12, ID: "AAAAAAAAAAAAAAAA", Was: "0"}, changes[0].Attempt)
		require.Equal(t, []byte{0}, changes[1].Value)
		require.Equal(t, "\xfe", changes[1].Over)
		require.Equal(t, int64(7), changes[1].Depth)
		require.Equal(t, "forbidden", changes[2].Refused)
		require.Equal(t, id, j.ID())
		require.NotEmpty(t, id)
		require.Equal(t, int64(4), j.Generation())
		require.Equal(t, int64(12), j.Depth(room))
		nothing, err := j.Load("!other:example.org")
		require.NoError(t, err)
		require.Nil(t, nothing)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		require.NoError(t, j.Close())
		require.NoError(t, j.Close(), "a second time")
	}
}

func TestEventsAreListedAndDropped(t *testing.T) {
	j := open(t, newPath(t), "")
	other := room[:len(room)-1] // its events must not count as the room's, nor the reverse
	require.NoError(t, j.Save(Known{Events: map[string]map[string][]byte{room: {"$1": []byte("1"), "$2": []byte("2")}, other: {"g$3": []byte("3")}}}))
	events, err := j.Events(room)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"$1", "$2"}, events)
	require.NoError(t, j.Save(Known{Events: map[string]map[string][]byte{room: {"$1": nil}}}))
	gone, err := j.Event(room, "$1")
	require.NoError(t, err)
	require.Nil(t, gone)
	events, err = j.Events(room)
	require.NoError(t, err)
	require.Equal(t, []string{"$2"}, events)
}

func TestOneAtATime(t *testing.T) {
	path := newPath(t)
	j := open(t, path, "")
	_, err := Open(path, options(""))
	require.ErrorIs(t, err, ErrInUse)
	require.ErrorContains(t, err, path)
	require.NoError(t, j.Close())
	require.NoError(t, open(t, path, "").Close())
}

// Somebody may look at the file with a tool.
func TestInUseByAnotherProgram(t *testing.T) {
	path := newPath(t)
	require.NoError(t, open(t, path, "").Close())
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	defer db.Close()
	start := time.Now()
	_, err = Open(path, options(""))
	require.ErrorIs(t, err, ErrInUse)
	require.Less(t, time.Since(start), time.Minute, "it takes half a second where nothing else is to be done")
}

func TestWhatIsRefusedAtOpen(t *testing.T) {
	clear, sealed := newPath(t), newPath(t)
	require.NoError(t, open(t, clear, "").Close())
	require.NoError(t, open(t, sealed, passphrase).Close())
	foreign := options("")
	foreign.Account = "@other:example.org"
	newer := newPath(t)
	makeBolt(t, newer, append(writer{2}, checksum(writer{2})...))
	noJournal := newPath(t)
	makeBolt(t, noJournal, nil)
	empty := newPath(t)
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	text := newPath(t)
	require.NoError(t, os.WriteFile(text, bytes.Repeat([]byte("no bbolt file "), 1000), 0o600))
	for _, test := range []struct {
		path    string
		options Options
		says    []string
	}{
		{clear, foreign, []string{account, "@other:example.org"}},
		{sealed, options(""), []string{"sealed", "no store_key is set"}},
		{sealed, options("another"), []string{"another store_key"}},
		{newer, options(""), []string{"newer version", "format 2"}},
		{noJournal, options(""), []string{"no journal", "good copy"}},
		{empty, options(""), []string{"empty", "good copy"}},
		{text, options(""), []string{"no bbolt file", "good copy"}},
		{t.TempDir(), options(""), []string{"it is a folder", "name a file in it"}},
		{os.DevNull, options(""), []string{"no file"}},
		{filepath.Join(t.TempDir(), "nowhere", "memory.db"), options(""), []string{"its folder has to be there"}},
		{filepath.Join(clear, "beneath"), options(""), []string{"not a directory"}},
	} {
		path := test.path
		before, _ := os.ReadFile(path)
		_, err := Open(path, test.options)
		require.Error(t, err)
		require.ErrorContains(t, err, path)
		for _, words := range test.says {
			require.ErrorContains(t, err, words)
		}
		require.NotContains(t, err.Error(), passphrase)
		after, _ := os.ReadFile(path)
		require.True(t, bytes.Equal(before, after), "nothing was changed")
		_, err = Open(path, test.options)
		require.NotErrorIs(t, err, ErrInUse, "the first left no lock behind")
		if len(before) == 0 && path != empty {
			require.NoFileExists(t, path+".lock", "beside what can't be a journal")
		}
	}
}

// A name may be a link, to a file that is not there yet as well, and it may be relative. Neither is
// the link replaced, nor does it matter where the program goes, or by which name a second one comes.
func TestLinks(t *testing.T) {
	folder, volume := t.TempDir(), t.TempDir()
	link, path := filepath.Join(folder, "memory.db"), filepath.Join(volume, "memory.db")
	require.NoError(t, os.Symlink(path, filepath.Join(folder, "current")))
	require.NoError(t, os.Symlink("current", link))
	t.Chdir(folder)
	j := open(t, "memory.db", "")
	t.Chdir(t.TempDir())
	require.NoError(t, j.Put(room, Change{Key: "tea", Value: []byte("1")}))
	for _, name := range []string{link, path} {
		_, err := Open(name, options(""))
		require.ErrorIs(t, err, ErrInUse)
		require.ErrorContains(t, err, name)
	}
	j.fail(errors.New("as the test says"))
	require.ErrorIs(t, j.Failure(), ErrFailed)
	require.NotErrorIs(t, j.Failure(), ErrInPlace)
	require.NoError(t, j.Close())
	require.FileExists(t, path+failedSuffix)

	j = open(t, link, "")
	require.Len(t, j.Changes(room), 1)
	require.NoError(t, j.Close())
	to, err := os.Readlink(link)
	require.NoError(t, err)
	require.Equal(t, "current", to)
	require.FileExists(t, path)
	require.NoFileExists(t, path+failedSuffix)
	names, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, names, 2, "the links, and nothing else")

	inside := filepath.Join(volume, "version")
	require.NoError(t, os.Mkdir(inside, 0o700))
	require.NoError(t, os.Symlink(filepath.Join("..", "memory.db"), filepath.Join(inside, "memory.db")))
	require.NoError(t, os.Symlink(inside, filepath.Join(folder, "linked")))
	j = open(t, filepath.Join(folder, "linked", "memory.db"), "")
	require.Len(t, j.Changes(room), 1, "a link in a linked folder leads on from where that is")
	require.NoError(t, j.Close())
}

// makeBolt makes a bbolt file with a header, or without one.
func makeBolt(t *testing.T, path string, header []byte) {
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		if header == nil {
			return nil
		}
		b, err := tx.CreateBucket([]byte(inFile))
		require.NoError(t, err)
		return b.Put(headerKey, header)
	}))
	require.NoError(t, db.Close())
}

func TestOthersMayNotReadTheFile(t *testing.T) {
	path := newPath(t)
	require.NoError(t, open(t, path, "").Close())
	require.NoError(t, os.Chmod(path, 0o644))
	o, log := logged("")
	j, err := Open(path, o)
	require.NoError(t, err)
	require.NoError(t, j.Close())
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.Contains(t, log(), "Others than its owner")
}

// secrets are what may not stand in the clear in a sealed file.
var secrets = []string{"tea-key", "tea-value", "tea-over", "tea-why", "tea-state", "tea-cipher", "tea-note", "tea-was"}

func putSecrets(t *testing.T, j *Journal) {
	require.NoError(t, j.Put(room, Change{Key: "tea-key", Value: []byte("tea-value"), Over: "tea-over"}))
	require.NoError(t, j.Attempted(room, Attempt{Depth: 1, Was: "tea-was"}, map[string]uint64{"tea-key": 1}))
	j.Refuse(room, "tea-key", 1, "tea-why")
	require.NoError(t, j.Save(Known{
		Rooms:  map[string][]byte{room: []byte("tea-state")},
		Events: map[string]map[string][]byte{room: {"$event": []byte("tea-cipher")}},
		Notes:  map[string]string{"token": "tea-note"},
	}))
	require.NoError(t, j.Flush())
}

func requireInFile(t *testing.T, path string, there bool) {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, secret := range secrets {
		require.Equal(t, there, bytes.Contains(content, []byte(secret)), secret)
	}
}

func TestNothingStandsInTheClear(t *testing.T) {
	path := newPath(t)
	j := open(t, path, passphrase)
	putSecrets(t, j)
	requireInFile(t, path, false)
}

// What is not sealed may be anybody's.
func TestSealedFromNowOn(t *testing.T) {
	for _, suffix := range []string{"", failedSuffix} {
		path := newPath(t)
		j := open(t, path, "")
		putSecrets(t, j)
		require.NoError(t, j.SetGeneration(3))
		requireInFile(t, path, true)
		id := j.ID()
		require.NoError(t, j.Close())
		require.NoError(t, os.Rename(path, path+suffix))
		_, err := Open(path, options(passphrase))
		require.ErrorContains(t, err, "not sealed")
		require.ErrorContains(t, err, path+suffix+":")
		require.NoError(t, os.Rename(path+suffix, path))

		j = open(t, path, "")
		j.Done(room, map[string]uint64{"tea-key": 1})
		require.NoError(t, j.Close())
		require.NoError(t, os.Rename(path, path+suffix))
		j = open(t, path, passphrase)
		require.True(t, j.CanSeal())
		require.Equal(t, id, j.ID())
		require.Equal(t, int64(3), j.Generation())
		require.Equal(t, int64(1), j.Depth(room))
		state, err := j.Load(room)
		require.NoError(t, err)
		require.Nil(t, state)
		requireInFile(t, path, false)
		require.NoError(t, j.Close())
		_, err = Open(path, options(""))
		require.ErrorContains(t, err, "no store_key is set")
	}
}

// An entry is good only where it was written, and only as it was written last.
func TestEntriesCantBeMoved(t *testing.T) {
	for _, key := range []string{"", passphrase} {
		for name, tamper := range map[string]func(t *testing.T, tx *bbolt.Tx){
			"swapped": func(t *testing.T, tx *bbolt.Tx) {
				b := tx.Bucket([]byte(inChanges))
				first, a := b.Cursor().First()
				last, z := b.Cursor().Last()
				a, z = bytes.Clone(a), bytes.Clone(z)
				require.NotEqual(t, first, last)
				require.NoError(t, b.Put(bytes.Clone(first), z))
				require.NoError(t, b.Put(bytes.Clone(last), a))
			},
			"left out": func(t *testing.T, tx *bbolt.Tx) {
				b := tx.Bucket([]byte(inChanges))
				first, _ := b.Cursor().First()
				require.NoError(t, b.Delete(bytes.Clone(first)))
			},
			"an older one": func(t *testing.T, tx *bbolt.Tx) {
				b := tx.Bucket([]byte(inChanges))
				n := name{room, "tea"}
				record := encodeChange(n.room, &Change{Key: n.key, Seq: 1})
				h, err := decodeHeader(tx.Bucket([]byte(inFile)).Get(headerKey))
				require.NoError(t, err)
				box, err := newBox(h.salt, key)
				require.NoError(t, err)
				require.NotNil(t, b.Get(box.name(n)))
				require.NoError(t, b.Put(box.name(n), box.seal(inChanges, box.name(n), record)))
			},
			"a depth": func(t *testing.T, tx *bbolt.Tx) {
				require.NoError(t, tx.Bucket([]byte(inDepths)).Delete([]byte(room)))
			},
			"all": func(t *testing.T, tx *bbolt.Tx) {
				require.NoError(t, tx.DeleteBucket([]byte(inChanges)))
			},
			"the header": func(t *testing.T, tx *bbolt.Tx) {
				b := tx.Bucket([]byte(inFile))
				h, err := decodeHeader(b.Get(headerKey))
				require.NoError(t, err)
				h.adopted = make([]byte, saltSize)
				raw := h.encode()
				if key == "" {
					raw[5] ^= 1 // there is no more than a checksum
				}
				require.NoError(t, b.Put(headerKey, raw))
			},
			"all, and no trace": func(t *testing.T, tx *bbolt.Tx) {
				require.NoError(t, tx.DeleteBucket([]byte(inChanges)))
				_, err := tx.CreateBucket([]byte(inChanges))
				require.NoError(t, err)
			},
		} {
			t.Run(fmt.Sprintf("%s %t", name, key != ""), func(t *testing.T) {
				path := newPath(t)
				j := open(t, path, key)
				require.NoError(t, j.Put(room, set("tea", "1"), set("milk", "2")))
				require.NoError(t, j.Attempted(room, Attempt{Depth: 3}, map[string]uint64{"tea": 1}))
				require.NoError(t, j.Close())
				db, err := bbolt.Open(path, 0o600, nil)
				require.NoError(t, err)
				require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
					tamper(t, tx)
					return nil
				}))
				require.NoError(t, db.Close())
				_, err = Open(path, options(key))
				require.ErrorIs(t, err, ErrDamaged)
				require.ErrorContains(t, err, path)
			})
		}
	}
}

// What is read when it is asked for is found to be damaged then.
func TestStateOfAnotherRoom(t *testing.T) {
	path := newPath(t)
	j := open(t, path, "")
	require.NoError(t, j.Save(Known{Rooms: map[string][]byte{room: []byte("1"), "!other": []byte("2")}}))
	require.NoError(t, j.Close())
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(inRooms))
		return b.Put([]byte(room), bytes.Clone(b.Get([]byte("!other"))))
	}))
	require.NoError(t, db.Close())
	j = open(t, path, "")
	_, err = j.Load(room)
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, room)
	require.ErrorContains(t, err, path)
	state, err := j.Load("!other")
	require.NoError(t, err)
	require.Equal(t, "2", string(state))
}
