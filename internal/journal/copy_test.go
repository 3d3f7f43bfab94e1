package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCopyOfOneInUse looks at a journal that is in use: it is all there, and the original does not notice.
func TestCopyOfOneInUse(t *testing.T) {
	for _, key := range []string{"", passphrase} {
		path := newPath(t)
		t.Setenv("TMPDIR", t.TempDir())
		j := open(t, path, key)
		require.NoError(t, j.Put(room, set("tea", "1"), set("milk", "2")))
		require.NoError(t, j.Put("!other:example.org", set("tea", "3")))
		j.Refuse(room, "milk", 2, "forbidden")
		require.NoError(t, j.Save(Known{Rooms: map[string][]byte{"!third:example.org": []byte("state")}}))
		require.NoError(t, j.Flush())
		before, err := os.ReadFile(path)
		require.NoError(t, err)

		looked, err := OpenCopy(path, options(key))
		require.NoError(t, err)
		require.Equal(t, j.Changes(room), looked.Changes(room))
		rooms, err := looked.KnownRooms()
		require.NoError(t, err)
		require.Equal(t, []string{"!other:example.org", room, "!third:example.org"}, rooms)
		waiting, refused, since := looked.Pending()
		require.Equal(t, []any{2, 1}, []any{waiting, refused})
		require.Equal(t, j.Changes(room)[0].Since, since)
		state, err := looked.Load("!third:example.org")
		require.NoError(t, err)
		require.Equal(t, "state", string(state))

		require.NoError(t, looked.Put(room, set("tea", "of the copy")))
		require.NoError(t, looked.Close())
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, before, after)
		left, err := filepath.Glob(filepath.Join(os.TempDir(), "*"))
		require.NoError(t, err)
		require.Empty(t, left, "nothing of the copy is left")
		require.NoError(t, j.Put(room, set("tea", "4")))
	}
}

// TestCopyWhileItIsWritten copies a journal again and again while it is written: each copy is of one moment.
func TestCopyWhileItIsWritten(t *testing.T) {
	path := newPath(t)
	j := open(t, path, "")
	require.NoError(t, j.Put(room, set("a", "0"), set("b", "0")))
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 1; ; n++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := j.Put(room, set("a", fmt.Sprint(n)), set("b", fmt.Sprint(n))); err != nil {
				stopped <- err
				return
			}
		}
	}()
	for range 50 {
		looked, err := OpenCopy(path, options(""))
		require.NoError(t, err)
		changes := looked.Changes(room)
		require.Len(t, changes, 2)
		require.Equal(t, changes[0].Value, changes[1].Value)
		require.NoError(t, looked.Close())
	}
	close(stop)
	require.NoError(t, <-stopped)
}

// TestCopyWithAFailedFile reads in what a failed file beside the journal holds, and leaves that where it is.
func TestCopyWithAFailedFile(t *testing.T) {
	path := newPath(t)
	j := open(t, path, "")
	require.NoError(t, j.Put(room, set("tea", "1")))
	require.NoError(t, j.Close())
	require.NoError(t, os.Rename(path, path+failedSuffix))

	looked, err := OpenCopy(path, options(""))
	require.NoError(t, err)
	change, there := looked.Get(room, "tea")
	require.True(t, there)
	require.Equal(t, "1", string(change.Value))
	require.NoError(t, looked.Close())
	require.FileExists(t, path+failedSuffix)
	require.NoFileExists(t, path)
}

// TestNoCopy says why there is none, by the journal's own name, and makes no file.
func TestNoCopy(t *testing.T) {
	path := newPath(t)
	_, err := OpenCopy(path, options(""))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, path)
	require.NoFileExists(t, path)

	j := open(t, path, passphrase)
	require.NoError(t, j.Put(room, set("tea", "1")))
	_, err = OpenCopy(path, options(""))
	require.ErrorContains(t, err, path)
	require.ErrorContains(t, err, "the journal "+path+": its values are sealed, and no store_key is set")
	_, err = OpenCopy(path, options("another"))
	require.ErrorContains(t, err, "another store_key")

	damaged := newPath(t)
	require.NoError(t, os.WriteFile(damaged, []byte("no journal"), 0o600))
	_, err = OpenCopy(damaged, options(""))
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, "the journal "+damaged+": it is damaged")
}
