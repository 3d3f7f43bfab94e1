package journal

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func get(t *testing.T, j *Journal, key string) Change {
	t.Helper()
	c, ok := j.Get(room, key)
	require.True(t, ok, key)
	return c
}

func TestWhatTakesThePlaceOfWhat(t *testing.T) {
	j := open(t, newPath(t), "")
	remove := Change{Key: "tea", Delete: true, Over: "what was there"}
	require.NoError(t, j.Put(room, remove))
	first := get(t, j, "tea")
	require.False(t, first.Forced, "nothing was set")
	require.Equal(t, "what was there", first.Over)
	require.Nil(t, first.Value)
	require.WithinDuration(t, time.Now(), first.Since, time.Minute)

	require.NoError(t, j.Attempted(room, Attempt{Depth: 5, ID: "a"}, map[string]uint64{"tea": first.Seq}))
	require.Equal(t, &Attempt{Depth: 5, ID: "a"}, get(t, j, "tea").Attempt)
	require.NoError(t, j.Attempted(room, Attempt{Depth: 6, ID: "b"}, map[string]uint64{"tea": first.Seq}))
	require.Equal(t, &Attempt{Depth: 5, ID: "a"}, get(t, j, "tea").Attempt, "the first one is kept")
	require.Equal(t, int64(6), j.Depth(room))

	require.NoError(t, j.Put(room, set("tea", "")))
	second := get(t, j, "tea")
	require.Greater(t, second.Seq, first.Seq)
	require.Nil(t, second.Attempt)
	require.Equal(t, first.Since, second.Since)
	require.Equal(t, []byte{}, second.Value, "which is not the same as none")
	require.False(t, second.Delete || second.Forced)
	require.NoError(t, j.Attempted(room, Attempt{Depth: 7}, map[string]uint64{"tea": first.Seq}))
	require.Nil(t, get(t, j, "tea").Attempt, "it was not what was attempted")

	j.Refuse(room, "tea", first.Seq, "too large")
	require.Empty(t, get(t, j, "tea").Refused, "it was not what was refused")
	j.Refuse(room, "tea", second.Seq, "too large")
	require.Equal(t, "too large", get(t, j, "tea").Refused)
	require.Empty(t, j.Rooms())
	require.NoError(t, j.Put(room, remove))
	third := get(t, j, "tea")
	require.True(t, third.Forced, "it took the place of a refused Set")
	require.Empty(t, third.Refused)
	require.NoError(t, j.Put(room, remove))
	require.True(t, get(t, j, "tea").Forced, "the Set may still be on its way")
	require.NoError(t, j.Put(room, set("tea", "2")))
	require.False(t, get(t, j, "tea").Forced)
	require.NoError(t, j.Put(room, set("tea", "3"), remove))
	require.True(t, get(t, j, "tea").Forced)

	last := get(t, j, "tea")
	j.Done(room, map[string]uint64{"tea": last.Seq - 1, "milk": 99})
	require.Equal(t, last, get(t, j, "tea"), "an earlier one was delivered")
	j.Done(room, map[string]uint64{"tea": last.Seq})
	_, ok := j.Get(room, "tea")
	require.False(t, ok)
	require.NoError(t, j.Put(room, remove))
	require.False(t, get(t, j, "tea").Forced)
	require.True(t, get(t, j, "tea").Since.After(first.Since))
}

func TestTheCallersSliceIsNotKept(t *testing.T) {
	j := open(t, newPath(t), "")
	value := []byte("1")
	require.NoError(t, j.Put(room, Change{Key: "tea", Value: value}))
	require.NoError(t, j.Save(Known{Rooms: map[string][]byte{room: value}}))
	value[0] = '2'
	require.Equal(t, "1", string(get(t, j, "tea").Value))
	state, err := j.Load(room)
	require.NoError(t, err)
	require.Equal(t, "1", string(state))
}

func TestOldestRoomFirst(t *testing.T) {
	path := newPath(t)
	j := open(t, path, "")
	for _, room := range []string{"!c", "!a", "!b"} {
		require.NoError(t, j.Put(room, set("tea", "1")))
	}
	require.NoError(t, j.Put("!c", set("tea", "2")), "the key still waits the longest")
	require.Equal(t, []string{"!c", "!a", "!b"}, j.Rooms())
	c, _ := j.Get("!c", "tea")
	changes, refused, since := j.Pending()
	require.Equal(t, []any{3, 0, c.Since}, []any{changes, refused, since})
	j.Refuse("!c", "tea", c.Seq, "forbidden")
	require.Equal(t, []string{"!a", "!b"}, j.Rooms())
	changes, refused, since = j.Pending()
	require.Equal(t, []any{2, 1, c.Since}, []any{changes, refused, since})
	require.NoError(t, j.Close())
	j = open(t, path, "")
	require.Equal(t, []string{"!a", "!b"}, j.Rooms())
	j.Retry("!c", All)
	require.Equal(t, []string{"!c", "!a", "!b"}, j.Rooms())
	for _, room := range j.Rooms() {
		j.Done(room, map[string]uint64{"tea": 99})
	}
	require.NoError(t, j.Close())
	changes, refused, since = open(t, path, "").Pending()
	require.Equal(t, []any{0, 0, time.Time{}}, []any{changes, refused, since})
}

// underWay waits until a transaction has taken what it is to write.
func underWay(t *testing.T, j *Journal) {
	t.Helper()
	for start := time.Now(); ; runtime.Gosched() {
		j.mu.RLock()
		taken := j.flying != nil
		j.mu.RUnlock()
		if taken {
			return
		}
		require.Less(t, time.Since(start), time.Minute)
	}
}

// A transaction is under way as long as another holds bbolt's lock.
func TestNothingWaitsForAPut(t *testing.T) {
	path := newPath(t)
	j := open(t, path, "")
	require.NoError(t, j.Put(room, set("tea", "1"), set("milk", "1"), set("rum", "1")))
	require.NoError(t, j.Save(Known{Rooms: map[string][]byte{room: []byte("state")}}))
	tx, err := j.file.db.Begin(true)
	require.NoError(t, err)
	defer tx.Rollback() // or closing the journal would wait for it
	put := make(chan error, 1)
	go func() { put <- j.Put(room, set("tea", "2")) }()
	underWay(t, j)
	require.Equal(t, "1", string(get(t, j, "tea").Value), "what is not on disk does not count")
	require.Len(t, j.Changes(room), 3)
	j.Done(room, map[string]uint64{"tea": 1, "milk": 2})
	j.Refuse(room, "rum", 3, "forbidden")
	_, there := j.Get(room, "tea")
	require.False(t, there)
	state, err := j.Load(room)
	require.NoError(t, err)
	require.Equal(t, "state", string(state))
	require.NoError(t, j.Save(Known{Rooms: map[string][]byte{room: []byte("state 2")}}))
	require.Empty(t, put)
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-put)
	require.Equal(t, "2", string(get(t, j, "tea").Value), "it was made later than what was done")
	changes := j.Changes(room)
	require.Len(t, changes, 2)
	require.NoError(t, j.Close())
	j = open(t, path, "")
	require.Equal(t, changes, j.Changes(room))
	state, err = j.Load(room)
	require.NoError(t, err)
	require.Equal(t, "state 2", string(state))
}

// What is noted of an attempt does not undo what happens to the change meanwhile, nor the reverse.
func TestWhatHappensWhileAnAttemptIsNoted(t *testing.T) {
	path := newPath(t)
	j := open(t, path, "")
	require.NoError(t, j.Put(room, set("tea", "1"), set("milk", "1")))
	tx, err := j.file.db.Begin(true)
	require.NoError(t, err)
	defer tx.Rollback() // or closing the journal would wait for it
	noted := make(chan error, 1)
	require.NoError(t, j.Save(Known{Notes: map[string]string{"token": "1"}}))
	go func() { noted <- j.Attempted(room, Attempt{Depth: 1}, map[string]uint64{"tea": 1, "milk": 2}) }()
	underWay(t, j)
	j.Refuse(room, "tea", 1, "forbidden")
	j.Done(room, map[string]uint64{"milk": 2})
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-noted)
	changes := j.Changes(room)
	require.Len(t, changes, 1)
	require.Equal(t, "forbidden", changes[0].Refused)
	require.Equal(t, &Attempt{Depth: 1}, changes[0].Attempt)
	require.NoError(t, j.Close())
	require.Equal(t, changes, open(t, path, "").Changes(room))
}

func TestNamesThatNoRoomHas(t *testing.T) {
	j := open(t, newPath(t), "")
	for _, name := range []string{"", string(make([]byte, maxName+1))} {
		require.Error(t, j.Put(name, set("tea", "1")))
		require.Error(t, j.Attempted(name, Attempt{Depth: 1}, nil))
		require.Error(t, j.Save(Known{Rooms: map[string][]byte{name: nil}}))
		require.Error(t, j.Save(Known{Notes: map[string]string{name: ""}}))
		require.Error(t, j.Save(Known{Aliases: map[string]string{name: ""}}))
		require.Error(t, j.Save(Known{Events: map[string]map[string][]byte{room: {name: nil}}}))
	}
	long := string(make([]byte, 1<<16))
	require.NoError(t, j.Put(room, set(long, "1"), set("", "2")), "a key may be anything")
	require.Len(t, j.Changes(room), 2)
}

// Many use a journal at the same time, each of them a room of its own.
func TestConcurrentUse(t *testing.T) {
	path := newPath(t)
	j := open(t, path, "")
	var all sync.WaitGroup
	for i := range 8 {
		room := fmt.Sprint("!", i)
		all.Go(func() {
			for n := range 30 {
				key := fmt.Sprint(n % 3)
				assert.NoError(t, j.Put(room, set(key, fmt.Sprint(n))))
				c, _ := j.Get(room, key)
				assert.Equal(t, fmt.Sprint(n), string(c.Value))
				assert.NoError(t, j.Save(Known{Rooms: map[string][]byte{room: fmt.Append(nil, n)}}))
				state, err := j.Load(room)
				assert.NoError(t, err)
				assert.Equal(t, fmt.Sprint(n), string(state))
				assert.NoError(t, j.Attempted(room, Attempt{Depth: int64(n)}, map[string]uint64{key: c.Seq}))
				switch n % 5 {
				case 0:
					j.Done(room, map[string]uint64{key: c.Seq})
				case 1:
					j.Refuse(room, key, c.Seq, "forbidden")
				case 2:
					j.Retry(room, All)
				case 3:
					assert.NoError(t, j.Flush())
				}
				j.Rooms()
				j.Pending()
			}
		})
	}
	all.Wait()
	want := make([][]Change, 8)
	for i := range want {
		want[i] = j.Changes(fmt.Sprint("!", i))
	}
	require.NoError(t, j.Close())
	j = open(t, path, "")
	for i := range want {
		room := fmt.Sprint("!", i)
		require.Equal(t, want[i], j.Changes(room))
		require.Equal(t, int64(29), j.Depth(room))
		state, err := j.Load(room)
		require.NoError(t, err)
		require.Equal(t, "29", string(state))
	}
}
