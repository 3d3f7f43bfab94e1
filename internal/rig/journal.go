package rig

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
)

// Journal returns where a bot may keep a journal: a file that is not there yet, in a folder
// of its own.
func Journal(t testing.TB) string { return filepath.Join(t.TempDir(), "memory.db") }

// Flush waits until a memory has delivered all, at most as long as bound.
func Flush(t testing.TB, memory *matrix.Memory, bound time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	require.NoError(t, memory.Flush(ctx))
	require.Equal(t, matrix.Pending{}, memory.Pending())
}

// Refused returns the error of a memory that can't be opened. Nothing is left of it.
func Refused(t testing.TB, conf matrix.Config, options ...matrix.Option) error {
	t.Helper()
	memory := matrix.New(conf, append([]matrix.Option{matrix.WithLogger(Log(t))}, options...)...)
	err := memory.Open(t.Context())
	require.NoError(t, memory.Close())
	require.Error(t, err, "it opens")
	return err
}
