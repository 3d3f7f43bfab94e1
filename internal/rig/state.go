package rig

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// MemoryType is the type of the memory's state events.
var MemoryType = event.Type{Type: "dev.opsdroid.database", Class: event.StateEventType}

// Standing returns the room's memory as it stands on the homeserver: the contents
// of the memory's state events, by state key, but for what says when keys were changed.
func (a Account) Standing(t testing.TB, room id.RoomID) map[string]string {
	t.Helper()
	return a.StandingOf(t, room, MemoryType)
}

// StandingOf is Standing for events of another type.
func (a Account) StandingOf(t testing.TB, room id.RoomID, eventType event.Type) map[string]string {
	t.Helper()
	all, err := a.State(t.Context(), room)
	require.NoError(t, err)
	contents := make(map[string]string)
	for stateKey, evt := range all[eventType] {
		var members map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(evt.Content.VeryRaw, &members))
		delete(members, "dev.joe.write")
		content, err := json.Marshal(members)
		require.NoError(t, err)
		contents[stateKey] = string(content)
	}
	return contents
}

// writeMember is the member of a dictionary in which memories say when its keys were
// changed. It is no key.
const writeMember = "dev.joe.write"

// Entries returns what the room's memory holds on the homeserver: all members of the
// memory's state events that are keys, with their values as they stand there.
func (a Account) Entries(t testing.TB, room id.RoomID) map[string]string {
	t.Helper()
	entries := make(map[string]string)
	for stateKey, content := range a.Standing(t, room) {
		var members map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(content), &members), stateKey)
		delete(members, writeMember)
		for name, value := range members {
			entries[name] = string(value)
		}
	}
	return entries
}

// Put stores a state event of the memory, as another program does.
func (a Account) Put(t testing.TB, room id.RoomID, stateKey string, content any) {
	t.Helper()
	_, err := a.SendStateEvent(t.Context(), room, MemoryType, stateKey, content)
	require.NoError(t, err)
}

// Permissions is the prefix of the keys that joe.Auth keeps.
const Permissions = "joe.permissions."

// Need says which power level the memory's events need in a room that has levels for them.
func (a Account) Need(t testing.TB, room id.RoomID, level int) {
	t.Helper()
	var levels event.PowerLevelsEventContent
	require.NoError(t, a.StateEvent(t.Context(), room, event.StatePowerLevels, "", &levels))
	levels.Events[MemoryType.Type] = level
	_, err := a.SendStateEvent(t.Context(), room, event.StatePowerLevels, "", &levels)
	require.NoError(t, err)
}
