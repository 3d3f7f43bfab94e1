package session_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/rig"
)

// What is noted for a room stands there, also for other sessions of the account, and nowhere else.
func TestRoomData(t *testing.T) {
	bot := rig.Register(t)
	room, other := bot.NewRoom(t), bot.NewRoom(t)
	c := connect(t, bot)
	type note struct{ Text string }
	var got note
	found, err := c.RoomData(t.Context(), room, "org.example.note", &got)
	require.NoError(t, err)
	require.False(t, found)
	require.NoError(t, c.SetRoomData(t.Context(), room, "org.example.note", note{"one"}))
	require.NoError(t, c.SetRoomData(t.Context(), room, "org.example.note", note{"two"}))
	found, err = connect(t, bot).RoomData(t.Context(), room, "org.example.note", &got)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, note{"two"}, got)
	found, err = c.RoomData(t.Context(), other, "org.example.note", &got)
	require.NoError(t, err)
	require.False(t, found)
}
