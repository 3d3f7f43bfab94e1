package test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"

	matrix "github.com/go-joe/matrix-memory"
)

// A session that the server logs out logs in again, and nothing is lost.
func TestLoggedOutByTheServer(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	memory := open(t, matrix.Config{
		Homeserver:  server.URL(),
		UserID:      bot.Account.UserID,
		Password:    bot.Password,
		DefaultRoom: room.String(),
		Timeout:     15 * time.Second,
	})
	require.NoError(t, memory.Set("before", []byte(`1`)))

	for range 2 {
		logout, err := mautrix.NewClient(server.URL(), bot.UserID(), bot.Account.AccessToken)
		require.NoError(t, err)
		_, err = logout.LogoutAll(t.Context())
		require.NoError(t, err)
		again, err := server.Register(t.Context(), bot.UserID().Localpart(), bot.Password)
		require.NoError(t, err)
		bot.Account, bot.Client.AccessToken = again, again.AccessToken
		logout.Client.CloseIdleConnections()

		require.NoError(t, memory.Set("after", []byte(`"logged in again"`)))
	}
	value, ok, err := memory.Get("before")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, `1`, string(value))
	// What others write is still seen: the sync loop has logged in again as well.
	_, err = bot.SendStateEvent(t.Context(), room, memoryType, "", map[string]any{"theirs": 1})
	require.NoError(t, err)
	eventually(t, func() bool { _, ok, err := memory.Get("theirs"); return ok && err == nil }, "the other writer's key")
}
