//go:build goolm

package e2ee

import (
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"
)

// A place of a session belongs to one event, sent at one time. The bot does not know when its own was
// sent before it has read it from the room.
func TestPlaceOfASessionBelongsToOneEvent(t *testing.T) {
	c, _ := detached(t)
	fits := func(index uint, event id.EventID, sent int64) bool {
		t.Helper()
		ok, err := c.sessions.ValidateMessageIndex(t.Context(), "session", event, index, sent)
		require.NoError(t, err)
		return ok
	}
	require.True(t, fits(0, "$own", 0))
	require.True(t, fits(0, "$own", 0))
	require.False(t, fits(0, "$other", 0))
	require.False(t, fits(0, "$other", 5))
	require.True(t, fits(0, "$own", 5))
	require.True(t, fits(0, "$own", 0))
	require.False(t, fits(0, "$own", 6))

	require.True(t, fits(1, "$theirs", 7))
	require.True(t, fits(1, "$theirs", 7))
	require.False(t, fits(1, "$theirs", 8))
	require.False(t, fits(1, "$other", 7))
	require.False(t, fits(1, "$other", 0))
	_, err := c.sessions.ValidateMessageIndex(t.Context(), "session", "", 2, 0)
	require.Error(t, err)
}
