package rig

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// Upgrade has the homeserver replace a room of the account's by another, which it returns.
func (a Account) Upgrade(t testing.TB, room id.RoomID) id.RoomID {
	t.Helper()
	var response struct {
		Replacement id.RoomID `json:"replacement_room"`
	}
	_, err := a.MakeRequest(t.Context(), http.MethodPost, a.BuildClientURL("v3", "rooms", room, "upgrade"),
		map[string]string{"new_version": "10"}, &response)
	require.NoError(t, err)
	return response.Replacement
}

// Replaces makes a new room say that it replaces another one.
func Replaces(room id.RoomID) RoomOption {
	return roomOption(func(p *plan) {
		p.CreationContent = map[string]any{"predecessor": map[string]any{"room_id": room, "event_id": "$tombstone"}}
	})
}

// Bury sends a room's tombstone, which names the room that replaces it.
func (a Account) Bury(t testing.TB, room, replacement id.RoomID) {
	t.Helper()
	_, err := a.SendStateEvent(t.Context(), room, event.StateTombstone, "",
		&event.TombstoneEventContent{Body: "The room has moved", ReplacementRoom: replacement})
	require.NoError(t, err)
}
