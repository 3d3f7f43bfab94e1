//go:build goolm

package e2ee

import (
	"context"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
)

// followSync subscribes to what sync brings of keys, devices and members. It is
// called before the first sync, which brings every room's state.
func (c *crypt) followSync() {
	syncer := c.client.Syncer.(*mautrix.DefaultSyncer) // the session makes no other
	members := []event.Type{event.StateMember, event.StateHistoryVisibility, event.StateEncryption}
	room := syncer.FilterJSON.Room
	room.State.Types = append(room.State.Types, members...)
	room.Timeline.Types = append(room.Timeline.Types, members...)
	// With lazy loading, a sync with a gap keeps back who came and went in it.
	room.State.LazyLoadMembers, room.Timeline.LazyLoadMembers = false, false

	syncer.OnSync(c.synced)
	syncer.OnEvent(c.client.StateStoreSyncHandler)
	syncer.OnEventType(event.StateMember, c.machine.HandleMemberEvent)
	syncer.OnEventType(event.StateHistoryVisibility, c.machine.HandleHistoryVisibility)
}

// synced takes over what a sync response brought beside the rooms.
func (c *crypt) synced(ctx context.Context, response *mautrix.RespSync, since string) bool {
	// mautrix would fetch the changed devices here and now, and forget about those
	// that it can't fetch. Noted in the store, they are fetched when a key is shared.
	changed := response.DeviceLists.Changed
	if err := c.sessions.MarkTrackedUsersOutdated(ctx, changed); err != nil {
		c.log.WithError(err).Error("Could not note in the key store that devices of other users have changed")
	}
	for _, user := range changed {
		c.machine.OnDevicesChanged(ctx, user)
	}
	rest := *response
	rest.DeviceLists = mautrix.DeviceLists{}
	return c.machine.ProcessSyncResponse(ctx, &rest, since)
}
