package rig

import (
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
)

// Latest returns the state event in which a key of the memory stands.
func Latest(t testing.TB, r Proxied, layout matrix.StateKey, key string) id.EventID {
	t.Helper()
	all, err := r.State(t.Context(), r.Room)
	require.NoError(t, err)
	stateKey := string(layout)
	if layout == matrix.PerKey {
		stateKey = key
	}
	require.Contains(t, all[MemoryType], stateKey)
	return all[MemoryType][stateKey].ID
}

// Redact takes from an event what it holds.
func Redact(t testing.TB, r Proxied, event id.EventID) {
	t.Helper()
	_, err := r.RedactEvent(t.Context(), r.Room, event)
	require.NoError(t, err)
}
