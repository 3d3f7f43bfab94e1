package journal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// contents returns all that a journal says it holds.
func contents(t *testing.T, path, key string) (all string, err error) {
	j, err := Open(path, options(key))
	if err != nil {
		require.ErrorContains(t, err, path)
		require.NotErrorIs(t, err, ErrInUse)
		return "", err
	}
	defer func() { require.NoError(t, j.Close()) }()
	for _, room := range j.Rooms() {
		for _, c := range j.Changes(room) {
			c.Value, all = nil, all+fmt.Sprintf("%s %q %x", room, c.Key, c.Value)
			if c.Attempt != nil {
				all += fmt.Sprint(*c.Attempt)
			}
			c.Attempt = nil
			all += fmt.Sprintln(c)
		}
	}
	for room := range 40 {
		state, loadErr := j.Load(fmt.Sprint("!", room))
		if loadErr != nil {
			require.ErrorIs(t, loadErr, ErrDamaged)
		}
		// The state of a room may be lost, as there is another copy, but it is never another.
		require.Contains(t, []string{"", fmt.Sprint("state of ", room)}, string(state))
		all += fmt.Sprint(j.Depth(fmt.Sprint("!", room)), " ")
	}
	// Whatever may be written goes well, or is refused.
	err = j.Put("!1", set("more", "1"))
	require.NoError(t, err)
	return all + j.ID() + fmt.Sprint(j.Generation()), nil
}

// many makes a journal whose tables take several pages.
func many(t *testing.T, path, key string) {
	j := open(t, path, key)
	for i := range 40 {
		room := fmt.Sprint("!", i)
		require.NoError(t, j.Save(Known{Rooms: map[string][]byte{room: fmt.Append(nil, "state of ", i)}}))
		require.NoError(t, j.Put(room, set("tea", fmt.Sprint(i)), set("milk", string(make([]byte, 40*i)))))
		c, _ := j.Get(room, "tea")
		require.NoError(t, j.Attempted(room, Attempt{Depth: int64(i)}, map[string]uint64{"tea": c.Seq}))
	}
	require.NoError(t, j.SetGeneration(5))
	require.NoError(t, j.SetGeneration(5)) // so that the last transaction but one says the same
	require.NoError(t, j.Close())
}

// A file is cut off at any length: that is an error which says so.
func TestCutOff(t *testing.T) {
	path := newPath(t)
	many(t, path, "")
	whole := must(os.ReadFile(path))
	want, err := contents(t, path, "")
	require.NoError(t, err)
	damaged := newPath(t)
	for size := 0; size < len(whole); size += 1021 {
		require.NoError(t, os.WriteFile(damaged, whole[:size], 0o600))
		got, err := contents(t, damaged, "")
		if err == nil { // what was cut off was not in use
			require.Equal(t, want, got)
			continue
		}
		require.ErrorIs(t, err, ErrDamaged)
		require.ErrorContains(t, err, "good copy")
		if size >= 2*os.Getpagesize() {
			require.ErrorContains(t, err, "it is cut off")
		}
		require.Equal(t, whole[:size], must(os.ReadFile(damaged)), "nothing in it was changed")
	}
}

// Bits of a file are flipped, bytes lost, and pages written to the wrong place. Either that is found, or nothing that counts is otherwise.
func TestDamage(t *testing.T) {
	t.Parallel() // it waits for the disk
	for _, key := range []string{"", passphrase} {
		path := newPath(t)
		many(t, path, key)
		whole := must(os.ReadFile(path))
		want, err := contents(t, path, key)
		require.NoError(t, err)
		used := len(bytes.TrimRight(whole, "\x00"))
		pages := used / os.Getpagesize()
		rounds := 400
		if key != "" {
			rounds = 20
		}
		folder := t.TempDir()
		found, random := 0, rand.New(rand.NewPCG(1, 2))
		for round := range rounds {
			b := bytes.Clone(whole)
			// The beginning of a page says most of what bbolt goes by.
			at := random.IntN(pages) * os.Getpagesize()
			if random.IntN(3) == 0 {
				at += random.IntN(os.Getpagesize())
			} else {
				at += random.IntN(100)
			}
			var what string
			switch random.IntN(4) {
			case 0:
				b[at] ^= 1 << random.IntN(8)
				what = "a flipped bit"
			case 1:
				b[at] = byte(random.IntN(256))
				what = "another byte"
			case 2:
				clear(b[at:min(at+1+random.IntN(600), used)])
				what = "lost bytes"
			case 3:
				size := os.Getpagesize()
				copy(b[at/size*size:], whole[random.IntN(pages)*size:][:size])
				what = "another page"
			}
			damaged := filepath.Join(folder, fmt.Sprint(round))
			require.NoError(t, os.WriteFile(damaged, b, 0o600))
			got, err := contents(t, damaged, key)
			require.NoError(t, os.Remove(damaged))
			if err != nil {
				found++
				continue
			}
			require.Equal(t, want, got, "%s at %d", what, at)
		}
		require.Greater(t, found, rounds/10)
	}
}

// A page that leads to itself or to one above it would let bbolt run in circles, and it would not find a key
// that is out of order.
func TestCircleAndOrder(t *testing.T) {
	path := newPath(t)
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		for i := 0; i < 1000 && err == nil; i++ {
			err = b.Put(fmt.Append(nil, i), make([]byte, 100))
		}
		return err
	}))
	require.NoError(t, db.Close())
	file := must(os.ReadFile(path))
	halved, err := checkPages(bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	require.False(t, halved)
	circles, leaves := 0, 0
	size := os.Getpagesize()
	for page := 2; page < len(file)/size; page++ {
		if header := file[page*size:]; native.Uint16(header[8:]) == branchPage {
			b := bytes.Clone(file)
			native.PutUint64(b[page*size+pageHeader+8:], uint64(page))
			_, err := checkPages(bytes.NewReader(b), int64(len(b)))
			require.ErrorContains(t, err, fmt.Sprintf("page %d is used twice", page))
			circles++
		} else if native.Uint16(header[8:]) == leafPage && native.Uint16(header[10:]) > 1 {
			b := bytes.Clone(file)
			key := page*size + pageHeader + int(native.Uint32(header[pageHeader+4:]))
			b[key] = 0xff
			_, err := checkPages(bytes.NewReader(b), int64(len(b)))
			require.ErrorContains(t, err, "out of order")
			leaves++
		}
	}
	require.Positive(t, circles)
	require.Positive(t, leaves)
}

// One of the two pages that a file begins with is lost: the other is good, and the log says what that means.
func TestLostMeta(t *testing.T) {
	for page := range 2 {
		path := newPath(t)
		many(t, path, "")
		b := must(os.ReadFile(path))
		want, err := contents(t, path, "")
		require.NoError(t, err)
		clear(b[page*os.Getpagesize():][:os.Getpagesize()])
		require.NoError(t, os.WriteFile(path, b, 0o600))
		o, log := logged("")
		j, err := Open(path, o)
		require.NoError(t, err)
		require.NoError(t, j.Close())
		require.Contains(t, log(), "meta page")
		got, err := contents(t, path, "")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// The file may become shorter while it is in use.
func TestCutOffWhileInUse(t *testing.T) {
	path := newPath(t)
	many(t, path, "")
	j := open(t, path, "")
	changes := j.Changes("!3")
	require.NoError(t, os.Truncate(path, int64(2*os.Getpagesize())))
	_, err := j.Load("!3")
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorIs(t, j.Failure(), ErrFailed)
	require.ErrorIs(t, j.Put("!3", set("tea", "late")), ErrFailed)
	require.Equal(t, changes, j.Changes("!3"))
	require.ErrorIs(t, j.Put("!3", set("tea", "late")), ErrFailed)
	require.NoError(t, j.Close())
	require.FileExists(t, path+failedSuffix)
	_, err = Open(path, options(""))
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, path+failedSuffix)
}

func FuzzPages(f *testing.F) {
	path := filepath.Join(f.TempDir(), "memory.db")
	j, err := Open(path, options(""))
	require.NoError(f, err)
	require.NoError(f, j.Put(room, set("tea", "1")))
	require.NoError(f, j.Close())
	file := must(os.ReadFile(path))
	f.Add(file[:4*os.Getpagesize()])
	f.Add(file)
	f.Fuzz(func(t *testing.T, file []byte) {
		// The sums of meta pages are made good, or no input gets any further.
		for _, at := range []int{pageHeader, os.Getpagesize() + pageHeader} {
			if len(file) >= at+metaSize {
				file = bytes.Clone(file)
				native.PutUint64(file[at+metaSize-8:], metaSum(file[at:]))
			}
		}
		_, _ = checkPages(bytes.NewReader(file), int64(len(file)))
	})
}
