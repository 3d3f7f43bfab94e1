package matrix_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// Without a journal nothing is ever pending, and there is nothing to wait for. The errors
// are the memory's.
func TestFlushWithoutAJournal(t *testing.T) {
	bot := rig.Register(t)
	memory := matrix.New(bot.Config(bot.NewRoom(t)), matrix.WithLogger(rig.Log(t)))
	var failure *matrix.Error
	require.ErrorAs(t, memory.Flush(t.Context()), &failure, "it is not open")
	require.Equal(t, "flush", failure.Op)
	require.NoError(t, memory.Open(t.Context()))
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.Equal(t, matrix.Pending{}, memory.Pending())
	require.NoError(t, memory.Flush(t.Context()))
	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, memory.Flush(ended), context.Canceled)
	require.NoError(t, memory.Close())
	require.ErrorIs(t, memory.Flush(t.Context()), matrix.ErrClosed)
	require.Equal(t, matrix.Pending{}, memory.Pending())
}
