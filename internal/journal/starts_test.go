package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A file is copied at any moment, also while it is in use, and both go on in any number of starts. Whichever is
// found to be the copy gives up what stands in it from before that, and nothing that was made since; and what is
// given up never counts again.
func TestForkModel(t *testing.T) {
	t.Parallel() // it waits for the disk
	folder := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		here := must(os.MkdirTemp(folder, ""))
		path := filepath.Join(here, "memory.db")
		original, shared, before := goesOn(t, must(Open(path, options(""))), nil, newModel())
		defer func() { original.Close() }()
		require.NoError(t, os.WriteFile(path+".copy", must(os.ReadFile(path)), 0o600))
		original, known, after := goesOn(t, original, shared, before.clone())
		j, other, now := goesOn(t, must(Open(path+".copy", options(""))), shared, before.clone())
		defer func() { j.Close() }()
		if rapid.Bool().Draw(t, "the copy was first") {
			original, known, j, now = j, other, original, after
		}
		require.NoError(t, j.Fork(known))
		require.NotEqual(t, original.ID(), j.ID())
		now.number = 0
		type made struct { // which stays what it is in whichever room
			start string
			seq   uint64
		}
		both := make(map[made]bool)
		for _, c := range before.changes {
			both[made{c.Start, c.Seq}] = true
		}
		for n, c := range now.changes {
			if both[made{c.Start, c.Seq}] {
				c.Refused = Copied
				now.changes[n] = c
			}
		}
		require.Empty(t, now.differs(j, map[uint64]time.Time{}))
		j, _, now = goesOn(t, j, nil, now)
		require.Empty(t, now.differs(j, map[uint64]time.Time{}))
	})
}

// goesOn has a journal used for a while, in one start after the other, and returns which starts are known by then where
// each tells those that were known before. Nothing is left to be written in the end.
func goesOn(t *rapid.T, j *Journal, known []Start, now model) (*Journal, []Start, model) {
	for range rapid.IntRange(0, 12).Draw(t, "steps") {
		if rapid.IntRange(0, 3).Draw(t, "or") == 0 {
			known = j.Starts(known)
			require.NoError(t, j.Close())
			j = must(Open(j.Path(), options("")))
			continue
		}
		_, err := steps(t, now)(j, &now)
		require.NoError(t, err)
	}
	require.NoError(t, j.Flush())
	return j, j.Starts(known), now
}

// What can't be told apart counts as copied: in a copy that is older than all starts that the original
// knows of, and in one whose original tells none.
func TestForkOfAnOldCopy(t *testing.T) {
	path := newPath(t)
	made := func(key string) *Journal {
		j := must(Open(path, options("")))
		require.NoError(t, j.Put(room, set(key, "1")))
		return j
	}
	require.NoError(t, made("tea").Close())
	second := made("milk")
	known := second.Starts(nil)[1]
	require.NoError(t, second.Close())
	require.NoError(t, made("rum").Close())
	j := made("gin")
	require.NoError(t, j.Close())
	file := must(os.ReadFile(path))

	many := []Start{{"start", 9}}
	for i := range maxStarts - 1 {
		many = append(many, Start{fmt.Sprint("start ", i), 9})
	}
	for _, test := range []struct {
		original []Start
		own      []string
	}{
		{nil, []string{"last"}},
		{many, []string{"last"}},
		{append([]Start{known}, many[1:]...), []string{"rum", "gin", "last"}},
		{many[1:], []string{"tea", "milk", "rum", "gin", "last"}},
	} {
		require.NoError(t, os.WriteFile(path, file, 0o600))
		j := made("last")
		require.NoError(t, j.Fork(test.original))
		var own []string
		for _, c := range j.Changes(room) {
			if c.Refused == "" {
				own = append(own, c.Key)
			}
		}
		require.Equal(t, test.own, own)
		require.NoError(t, j.Close())
	}
}

// A file knows of the last starts that made changes, and adds those that are known elsewhere.
func TestStarts(t *testing.T) {
	path := newPath(t)
	j := open(t, path, "")
	idle := j.Starts(nil)
	require.Len(t, idle, 1)
	require.NoError(t, j.Close())
	var made []Start
	for n := range maxStarts + 1 {
		j := must(Open(path, options("")))
		require.NoError(t, j.Put(room, set("tea", "1")))
		require.NoError(t, j.Put(room, set("tea", "2")))
		made = append(made, Start{get(t, j, "tea").Start, uint64(2 * n)})
		if n == 1 {
			require.Equal(t, []Start{idle[0], made[0], made[1]}, j.Starts([]Start{idle[0], made[0]}))
		}
		require.NoError(t, j.Close())
	}
	j = open(t, path, "")
	starts := j.Starts(idle)
	require.Equal(t, made[2:], starts[:maxStarts-1])
	require.Len(t, starts, maxStarts)
	require.Equal(t, uint64(2*maxStarts+2), starts[maxStarts-1].After)
}

// A Delete in the place of what is given up is about what the room holds by now.
func TestDeleteOverWhatIsCopied(t *testing.T) {
	path := newPath(t)
	j := open(t, path, "")
	require.NoError(t, j.Put(room, set("tea", "1")))
	original := j.Starts(nil)
	require.NoError(t, j.Close())
	j = open(t, path, "")
	require.NoError(t, j.Fork(original))
	j.Retry(room, All)
	require.Equal(t, Copied, get(t, j, "tea").Refused)
	require.NoError(t, j.Put(room, Change{Key: "tea", Delete: true}))
	require.False(t, get(t, j, "tea").Forced)
}
