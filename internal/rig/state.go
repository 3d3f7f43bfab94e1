package rig

import (
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// MemoryType is the type of the memory's state events.
var MemoryType = event.Type{Type: "dev.opsdroid.database", Class: event.StateEventType}

// Standing returns the room's memory as it stands on the homeserver: the contents
// of the memory's state events, by state key.
func (a Account) Standing(t testing.TB, room id.RoomID) map[string]string {
	t.Helper()
	all, err := a.State(t.Context(), room)
	require.NoError(t, err)
	contents := make(map[string]string)
	for stateKey, evt := range all[MemoryType] {
		contents[stateKey] = string(evt.Content.VeryRaw)
	}
	return contents
}

// Put stores a state event of the memory, as another program does.
func (a Account) Put(t testing.TB, room id.RoomID, stateKey string, content any) {
	t.Helper()
	_, err := a.SendStateEvent(t.Context(), room, MemoryType, stateKey, content)
	require.NoError(t, err)
}
