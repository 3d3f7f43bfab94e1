//go:build goolm

package e2ee

import (
	"context"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// states is mautrix's store of rooms' states, but for two things.
//
// A room whose m.room.encryption is gone, or no longer names a known algorithm, stays
// encrypted, with the specification's defaults. Else who leaves such a room would go on to
// get its keys. And what it has of a member is replaced and never changed, as it is read by
// others, without a lock: it stands in the event that sync has brought.
type states struct {
	*mautrix.MemoryStateStore
	encrypted *encryptedRooms
}

// IsEncrypted implements mautrix.StateStore.
func (s states) IsEncrypted(_ context.Context, room id.RoomID) (bool, error) {
	return s.encrypted.ever(room)
}

// SetMembership implements mautrix.StateStore.
func (s states) SetMembership(ctx context.Context, room id.RoomID, user id.UserID, membership event.Membership) error {
	member, err := s.GetMember(ctx, room, user)
	if err != nil {
		return err
	}
	changed := *member
	changed.Membership = membership
	return s.SetMember(ctx, room, user, &changed)
}
