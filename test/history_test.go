package test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// past returns what History tells of a key, the latest first.
func past(t testing.TB, memory *matrix.Memory, key string) (changes []matrix.Change) {
	t.Helper()
	for change, err := range memory.InRoom("main").History(t.Context(), key) {
		require.NoError(t, err)
		changes = append(changes, change)
	}
	return changes
}

// History tells each value that a key had, when it was deleted, and by whom, whoever it was, and nothing of other keys,
// however long ago that was.
func TestHistory(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bot, others := neighbours(t, layout)
			require.NoError(t, others.Put(t.Context(), "other", `1`))
			require.NoError(t, others.Put(t.Context(), "tea", `"theirs first"`))
			conf := bot.Config(others.Room)
			conf.SingleStateKey = layout
			memory := rig.Open(t, conf)
			require.NoError(t, memory.Set("tea", []byte(`"green"`)))
			require.NoError(t, memory.Set("other", []byte(`2`)))
			_, err := memory.Delete("tea")
			require.NoError(t, err)
			for i := range 110 { // more than a page
				_, err := others.SendText(t.Context(), others.Room, fmt.Sprint(i))
				require.NoError(t, err)
			}
			require.NoError(t, memory.Set("tea", []byte(`"white"`)))
			eventually(t, func() bool {
				value, err := others.Read(t.Context(), "tea")
				return err == nil && string(value["tea"]) == `"white"`
			}, "the value stands in the room")
			require.NoError(t, others.Put(t.Context(), "tea", `"black"`))
			require.NoError(t, others.Put(t.Context(), "other", `3`))

			var changes []matrix.Change
			eventually(t, func() bool { changes = past(t, memory, "tea"); return len(changes) == 5 }, "all is in the history")
			says(t, changes[0], others.Room, "tea", `"black"`, others.UserID)
			says(t, changes[1], others.Room, "tea", `"white"`, bot.UserID)
			says(t, changes[2], others.Room, "tea", "", bot.UserID)
			says(t, changes[3], others.Room, "tea", `"green"`, bot.UserID)
			says(t, changes[4], others.Room, "tea", `"theirs first"`, others.UserID)
			for i := range 4 {
				require.False(t, changes[i].Time.Before(changes[i+1].Time))
			}
			require.Len(t, past(t, memory, "other"), 3)
			require.Empty(t, past(t, memory, "never"))
		})
	}
}

// What memories take out of the room and put back, as they write at the same moment, is no change.
func TestHistoryOfMemoriesThatMeet(t *testing.T) {
	all := rig.Crowd(t, rig.Shared(t), 2, matrix.OneStateKey)
	want := make(map[string]string)
	for i := range 3 {
		a, b := fmt.Sprint("a", i), fmt.Sprint("b", i)
		require.NoError(t, rig.Overtaken(t, all[0], func() error { return all[0].Set(a, []byte(`1`)) }, func() {
			require.NoError(t, all[1].Set(b, []byte(`2`)))
		}))
		want[a], want[b] = `1`, `2`
		rig.Settle(t, want, rig.Lasting, all...)
	}
	for key, value := range want {
		changes := past(t, all[0].Memory, key)
		require.Len(t, changes, 1, key)
		by := all[0]
		if key[0] == 'b' {
			by = all[1]
		}
		says(t, changes[0], all[0].Room, key, value, by.Memory.Client().UserID)
	}
}

// Keys that were deleted at once, more than a dictionary has stamps for, were each deleted once.
func TestHistoryOfManyAtOnce(t *testing.T) {
	bot := rig.Register(t)
	memory := rig.Open(t, bot.Config(bot.NewRoom(t)))
	var keys []string
	for i := range 40 {
		keys = append(keys, fmt.Sprint("key ", i))
	}
	results := make(chan error)
	for _, key := range keys {
		go func() { results <- memory.Set(key, []byte(`1`)) }()
	}
	for range keys {
		require.NoError(t, <-results)
	}
	n, err := memory.InRoom("main").DeleteAll(keys...)
	require.NoError(t, err)
	require.Equal(t, len(keys), n)
	require.NoError(t, memory.Set("tea", []byte(`1`)))
	for _, key := range keys {
		eventually(t, func() bool { return len(past(t, memory, key)) == 2 }, "%s was set and deleted", key)
	}
}

// The history of a room that the bot is not in can't be had, nor does a closed memory know any.
func TestHistoryThatCantBeHad(t *testing.T) {
	bot := rig.Register(t)
	memory := rig.Open(t, bot.Config(bot.NewRoom(t)))
	fails := func(room string, with error) {
		t.Helper()
		n := 0
		for change, err := range memory.InRoom(room).History(t.Context(), "tea") {
			require.ErrorIs(t, err, with)
			require.Empty(t, change)
			n++
		}
		require.Equal(t, 1, n)
	}
	fails("nowhere", matrix.ErrUnknownRoom)
	require.NoError(t, memory.Close())
	fails("main", matrix.ErrClosed)
}
