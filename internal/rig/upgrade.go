package rig

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
)

// Upgrade has the homeserver upgrade a room to another version, as a client does, and returns
// the room that replaces it. The account alone is in that; the room's aliases lead to it.
func (a Account) Upgrade(t testing.TB, room id.RoomID) id.RoomID {
	t.Helper()
	request := map[string]id.RoomVersion{"new_version": id.RoomV11}
	var create event.CreateEventContent
	require.NoError(t, a.StateEvent(t.Context(), room, event.StateCreate, "", &create))
	if create.RoomVersion == id.RoomV11 { // homeservers take one back as well
		request["new_version"] = id.RoomV10
	}
	var made struct {
		Room id.RoomID `json:"replacement_room"`
	}
	_, err := a.MakeRequest(t.Context(), http.MethodPost, a.BuildClientURL("v3", "rooms", room, "upgrade"), request, &made)
	require.NoError(t, err)
	require.NotEmpty(t, made.Room)
	return made.Room
}

// UpgradeByHand upgrades a room with what is open to every client: a new room that names the
// old one, a tombstone, and the aliases.
func (a Account) UpgradeByHand(t testing.TB, room id.RoomID, options ...RoomOption) id.RoomID {
	t.Helper()
	made := a.NewRoom(t, append(options, Replacing(room))...)
	a.Bury(t, room, made)
	aliases, err := a.GetAliases(t.Context(), room)
	require.NoError(t, err)
	for _, alias := range aliases.Aliases {
		_, err := a.DeleteAlias(t.Context(), alias)
		require.NoError(t, err)
		_, err = a.CreateAlias(t.Context(), alias, made)
		require.NoError(t, err)
	}
	return made
}

// Replacing has a new room say that it replaces another one. That one's tombstone comes later, so its
// ID is not known yet.
func Replacing(room id.RoomID) RoomOption {
	return roomOption(func(p *plan) {
		p.CreationContent = map[string]any{"predecessor": map[string]any{"room_id": room, "event_id": "$tombstone"}}
	})
}

// Bury has the tombstone of a room name the one that replaces it.
func (a Account) Bury(t testing.TB, room, replacement id.RoomID) {
	t.Helper()
	tombstone := &event.TombstoneEventContent{Body: "This room has been replaced", ReplacementRoom: replacement}
	_, err := a.SendStateEvent(t.Context(), room, event.StateTombstone, "", tombstone)
	require.NoError(t, err)
}

// InviteTo invites somebody to a room.
func (a Account) InviteTo(t testing.TB, room id.RoomID, whom Account) {
	t.Helper()
	_, err := a.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: whom.UserID})
	require.NoError(t, err)
}

// IsIn says whether the account is in a room.
func (a Account) IsIn(t testing.TB, room id.RoomID) bool {
	t.Helper()
	rooms, err := a.JoinedRooms(t.Context())
	require.NoError(t, err)
	for _, joined := range rooms.JoinedRooms {
		if joined == room {
			return true
		}
	}
	return false
}

// Upgrades are the ways in which somebody upgrades a room that everybody may join, and in which
// every member may write the memory.
var Upgrades = map[string]func(t testing.TB, by Account, room id.RoomID) id.RoomID{
	"by the homeserver": func(t testing.TB, by Account, room id.RoomID) id.RoomID { return by.Upgrade(t, room) },
	"by hand": func(t testing.TB, by Account, room id.RoomID) id.RoomID {
		return by.UpgradeByHand(t, room, Public, Writable)
	},
}

// UpgradedInEachWay runs a test in some layouts for each way to upgrade.
func UpgradedInEachWay(t *testing.T, layouts map[string]matrix.StateKey, test func(t *testing.T, layout matrix.StateKey, upgrade func(testing.TB, Account, id.RoomID) id.RoomID)) {
	t.Helper()
	for name, layout := range layouts {
		for way, upgrade := range Upgrades {
			t.Run(name+"/"+way, func(t *testing.T) {
				t.Parallel()
				test(t, layout, upgrade)
			})
		}
	}
}
