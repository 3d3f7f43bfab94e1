package session_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/rig"
)

// Every event of the memory is found in the room's history, however much was said in
// between.
func TestEarlierEvents(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t)
	c := connect(t, account)
	const last = 15
	for n := range last + 1 {
		account.Put(t, room, "", map[string]int{"n": n})
		if n%5 == 2 { // more than a page
			for i := range 110 {
				_, err := account.SendText(t.Context(), room, fmt.Sprint("chat ", i))
				require.NoError(t, err)
			}
		}
	}
	for range 2 { // the first time it finds out how the homeserver filters
		snapshot := c.snapshotWith(t, room, content(last))
		found := make(map[string]bool)
		for _, text := range texts(snapshot.Timeline) {
			found[text] = true
		}
		oldest := last + 1 - len(found)
		for from, pages := snapshot.Earlier, 0; from != ""; pages++ {
			events, next, err := c.EarlierEvents(t.Context(), room, from)
			require.NoError(t, err)
			for _, text := range texts(events) {
				if !found[text] { // events of the snapshot may come again
					oldest--
					require.Equal(t, content(oldest), text)
					found[text] = true
				}
			}
			require.Less(t, pages, 20)
			from = next
		}
		require.Zero(t, oldest)
	}
}

// What stands under a state key is read as it is, redacted or not there.
func TestStanding(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t)
	c := connect(t, account)
	account.Put(t, room, "a key", map[string]int{"n": 1})
	content, found, err := c.Standing(t.Context(), room, rig.MemoryType, "a key")
	require.NoError(t, err)
	require.True(t, found)
	require.JSONEq(t, `{"n":1}`, string(content))

	all, err := account.State(t.Context(), room)
	require.NoError(t, err)
	_, err = account.RedactEvent(t.Context(), room, all[rig.MemoryType]["a key"].ID)
	require.NoError(t, err)
	content, found, err = c.Standing(t.Context(), room, rig.MemoryType, "a key")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "{}", string(content))

	_, found, err = c.Standing(t.Context(), room, rig.MemoryType, "none")
	require.NoError(t, err)
	require.False(t, found)
	_, _, err = c.Standing(t.Context(), "!nowhere:localhost", rig.MemoryType, "")
	require.Error(t, err)
}
