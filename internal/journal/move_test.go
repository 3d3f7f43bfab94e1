package journal

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// asItIs settles nothing.
func asItIs(c Change) (Change, bool) { return c, true }

func TestMove(t *testing.T) {
	for _, key := range []string{"", passphrase} {
		path := newPath(t)
		j := open(t, path, key)
		require.NoError(t, j.Put(room, set("tea", "1"), set("milk", "1"), set("rum", "1"), set("gone", "1")))
		require.NoError(t, j.Attempted(room, Attempt{Depth: 12, ID: "id", Was: "0"}, map[string]uint64{"tea": 1, "milk": 2}))
		j.Refuse(room, "rum", 3, "forbidden")
		before := j.Changes(room)
		known := Known{Rooms: map[string][]byte{room: []byte("gone"), next: []byte("there")}}
		require.NoError(t, j.Move(room, next, known, func(c Change) (Change, bool) {
			require.Empty(t, c.Refused)
			if c.Key == "milk" {
				c.Attempt = nil
			}
			return c, c.Key != "gone"
		}))
		require.Empty(t, j.Changes(room))
		require.Equal(t, []string{next}, j.Rooms())
		require.Empty(t, j.Refused(), "the new room may take it")
		changes, refused, since := j.Pending()
		require.Equal(t, []any{3, 0, before[0].Since}, []any{changes, refused, since})
		require.Equal(t, int64(12), j.Depth(next))
		want := before[:3]
		want[1].Attempt, want[2].Refused = nil, ""
		require.Equal(t, want, j.Changes(next))

		require.NoError(t, j.file.close()) // the process ends
		require.NoError(t, j.lock.Close())
		j = open(t, path, key)
		require.Empty(t, j.Changes(room))
		require.Equal(t, want, j.Changes(next))
		require.Equal(t, int64(12), j.Depth(next))
		for room, state := range known.Rooms {
			kept, err := j.Load(room)
			require.NoError(t, err)
			require.Equal(t, string(state), string(kept), "in the same transaction")
		}
		j.Done(next, map[string]uint64{"tea": 1, "milk": 2, "rum": 3})
		known.Rooms[room] = []byte("still gone")
		require.NoError(t, j.Move(room, next, known, asItIs), "nothing is left to be moved")
		require.NoError(t, j.Close())
		j = open(t, path, key)
		require.Empty(t, j.Changes(next))
		kept, err := j.Load(room)
		require.NoError(t, err)
		require.Equal(t, "still gone", string(kept))
	}
}

// Both rooms have a change of the same key.
func TestMoveOntoWhatIsThere(t *testing.T) {
	path := newPath(t)
	j := open(t, path, "")
	remove := Change{Key: "milk", Delete: true}
	require.NoError(t, j.Put(room, set("tea", "old"), set("milk", "old")))
	require.NoError(t, j.Put(next, set("tea", "new"), remove, set("rum", "new"), set("gin", "new")))
	require.NoError(t, j.Put(room, Change{Key: "rum", Delete: true}, set("gin", "old")))
	require.NoError(t, j.Attempted(room, Attempt{Depth: 7, ID: "old"}, map[string]uint64{"tea": 1, "gin": 8}))
	require.NoError(t, j.Attempted(next, Attempt{Depth: 9, ID: "new"}, map[string]uint64{"tea": 3, "gin": 6}))
	j.Refuse(next, "gin", 6, "forbidden")
	oldest, _ := j.Get(room, "tea")
	require.NoError(t, j.Move(room, next, Known{}, asItIs))
	changes := j.Changes(next)
	require.Len(t, changes, 4)
	tea, milk, rum, gin := changes[0], changes[1], changes[2], changes[3]
	require.Equal(t, "new", string(tea.Value))
	require.Equal(t, &Attempt{Depth: 9, ID: "new"}, tea.Attempt)
	require.Equal(t, oldest.Since, tea.Since)
	require.True(t, milk.Forced, "it took the place of a Set")
	require.True(t, rum.Delete && rum.Forced)
	require.Equal(t, "old", string(gin.Value))
	require.Equal(t, &Attempt{Depth: 7, ID: "old"}, gin.Attempt)
	require.Empty(t, gin.Refused, "it was made after what was refused")
	require.Equal(t, int64(9), j.Depth(next), "the deeper one's")
	require.NoError(t, j.Close())
	j = open(t, path, "")
	require.Empty(t, j.Changes(room))
	require.Equal(t, changes, j.Changes(next))
}

// What is the original's to deliver stays refused, and takes the place of nothing that is not.
func TestMoveWhatIsCopied(t *testing.T) {
	path := newPath(t)
	j := open(t, path, "")
	require.NoError(t, j.Put(next, set("tea", "new")))
	require.NoError(t, j.Put(room, set("tea", "copied"), set("milk", "copied")))
	require.NoError(t, j.Put(next, set("rum", "copied")))
	known := j.Starts(nil)
	j.Done(next, map[string]uint64{"tea": 1})
	require.NoError(t, j.Close())
	j = open(t, path, "")
	require.NoError(t, j.Fork(known))
	require.NoError(t, j.Put(room, set("rum", "1")))
	require.NoError(t, j.Put(next, set("tea", "2")))
	require.NoError(t, j.Move(room, next, Known{}, func(c Change) (Change, bool) {
		require.NotEqual(t, "milk", c.Key)
		return c, true
	}))
	milk, _ := j.Get(next, "milk")
	require.Equal(t, Copied, milk.Refused)
	tea, _ := j.Get(next, "tea")
	require.Equal(t, "2", string(tea.Value))
	rum, _ := j.Get(next, "rum")
	require.Equal(t, "1", string(rum.Value))
	require.Empty(t, rum.Refused)
	require.False(t, rum.Forced)
	require.Equal(t, []string{next}, j.Refused())

	// Even where it was made later, as Seqs of two files may be.
	copied, other := &Change{Seq: 2, Refused: Copied}, &Change{Seq: 1}
	require.Equal(t, other, together(copied, other))
	require.Equal(t, other, together(other, copied))
}

// A transaction is under way as long as another holds bbolt's lock.
func TestWhatHappensWhileChangesMove(t *testing.T) {
	path := newPath(t)
	j := open(t, path, "")
	require.NoError(t, j.Put(next, set("tea", "0"), set("gin", "0")))
	require.NoError(t, j.Put(room, set("tea", "1"), set("milk", "1"), set("rum", "1"), set("cola", "1")))
	require.NoError(t, j.Put(next, set("cola", "2")))
	tx, err := j.file.db.Begin(true)
	require.NoError(t, err)
	defer tx.Rollback() // or closing the journal would wait for it
	moved := make(chan error, 1)
	go func() { moved <- j.Move(room, next, Known{}, asItIs) }()
	underWay(t, j)
	require.Len(t, j.Changes(room), 4, "what is not on disk does not count")
	j.Done(room, map[string]uint64{"tea": 3, "milk": 4})
	j.Refuse(room, "rum", 5, "forbidden")
	j.Refuse(next, "cola", 7, "forbidden")
	j.Done(next, map[string]uint64{"gin": 2})
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-moved)
	require.Empty(t, j.Changes(room))
	changes := j.Changes(next)
	require.Len(t, changes, 3)
	require.Equal(t, "0", string(changes[0].Value), "only the other room's was done")
	require.Equal(t, "rum", changes[1].Key)
	require.Empty(t, changes[1].Refused)
	require.Equal(t, "forbidden", changes[2].Refused)
	require.NoError(t, j.Close())
	j = open(t, path, "")
	require.Empty(t, j.Changes(room))
	require.Equal(t, changes, j.Changes(next))
}

func TestMoveToWhatNoRoomIsCalled(t *testing.T) {
	j := open(t, newPath(t), "")
	require.NoError(t, j.Put(room, set("tea", "1")))
	require.Error(t, j.Move(room, "", Known{}, asItIs))
	require.Error(t, j.Move(room, next, Known{Rooms: map[string][]byte{"": nil}}, asItIs))
	require.Len(t, j.Changes(room), 1)
	require.NoError(t, j.Close())
	require.ErrorIs(t, j.Move(room, next, Known{}, asItIs), ErrClosed)
	require.Len(t, j.Changes(room), 1)
}
