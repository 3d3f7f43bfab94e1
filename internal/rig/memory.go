package rig

import (
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
)

// Layouts are the three ways in which a room's memory can stand.
var Layouts = map[string]matrix.StateKey{
	"single": matrix.OneStateKey,
	"custom": "my.key",
	"perkey": matrix.PerKey,
}

// Open opens a memory that logs to the test's output, and closes it when the test
// ends, if it is not closed before.
func Open(t testing.TB, conf matrix.Config, options ...matrix.Option) *matrix.Memory {
	t.Helper()
	memory := matrix.New(conf, append([]matrix.Option{matrix.WithLogger(Log(t))}, options...)...)
	require.NoError(t, memory.Open(t.Context()))
	t.Cleanup(func() { require.NoError(t, memory.Close()) })
	return memory
}

// Has checks what Get returns. An empty want means that there is no such key.
func Has(t testing.TB, memory *matrix.Memory, key, want string) {
	t.Helper()
	value, ok, err := memory.Get(key)
	require.NoError(t, err)
	require.Equal(t, want != "", ok, "is %q there?", key)
	require.Equal(t, want, string(value))
}

// Entries returns all that a memory holds, by key.
func Entries(t testing.TB, memory *matrix.Memory) map[string]string {
	t.Helper()
	keys, err := memory.Keys()
	require.NoError(t, err)
	entries := make(map[string]string)
	for _, key := range keys {
		value, ok, err := memory.Get(key)
		require.NoError(t, err)
		if ok { // somebody may have deleted it since
			entries[key] = string(value)
		}
	}
	return entries
}

// BothKinds are the layouts that differ in more than where the one dictionary stands.
var BothKinds = map[string]matrix.StateKey{"single": matrix.OneStateKey, "perkey": matrix.PerKey}
