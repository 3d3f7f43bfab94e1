package rig

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
)

// A Recording is what a real opsdroid did on a real homeserver, step by step.
type Recording struct {
	Name           string          `json:"name"`
	Encrypted      bool            `json:"encrypted_room"`
	SingleStateKey any             `json:"single_state_key"`
	Steps          []RecordingStep `json:"steps"`
}

// A RecordingStep is one operation of opsdroid's memory: what it was asked for, what
// it answered, and the memory's state events afterwards.
type RecordingStep struct {
	Op       string            `json:"op"` // "put", "get" or "delete"
	Args     []json.RawMessage `json:"args"`
	Returned json.RawMessage   `json:"returned"`
	State    []struct {
		StateKey string          `json:"state_key"`
		Content  json.RawMessage `json:"content"`
	} `json:"state_after"`
}

// Recordings returns what opsdroid did in encrypted rooms, or in plain ones: one
// recording for each layout. The test's package is in a folder of the module's root.
func Recordings(t testing.TB, encrypted bool) []Recording {
	t.Helper()
	text, err := os.ReadFile("../internal/wire/testdata/opsdroid-wire.json")
	require.NoError(t, err)
	var all []Recording
	require.NoError(t, json.Unmarshal(text, &all))
	all = slices.DeleteFunc(all, func(r Recording) bool { return r.Encrypted != encrypted })
	require.Len(t, all, len(Layouts))
	return all
}

// Layout returns the layout that a recording was made in.
func (r Recording) Layout() matrix.StateKey {
	switch key := r.SingleStateKey.(type) {
	case string:
		return matrix.StateKey(key)
	case bool:
		if !key {
			return matrix.PerKey
		}
	}
	return matrix.OneStateKey
}

// Keys returns the keys that a step is about. Only to delete are there several.
func (s RecordingStep) Keys(t testing.TB) (keys []string) {
	t.Helper()
	if json.Unmarshal(s.Args[0], &keys) != nil {
		keys = make([]string, 1)
		require.NoError(t, json.Unmarshal(s.Args[0], &keys[0]))
	}
	return keys
}
