//go:build goolm

package e2ee

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
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

	caughtUp := sync.OnceFunc(func() { close(c.caughtUp) })
	syncer.FilterJSON.AccountData = &mautrix.FilterPart{Types: []event.Type{event.AccountDataMegolmBackupKey}}

	// The memory hears what it can of a member event that is malformed, which anybody may
	// make who leaves: else the room's key would not be changed.
	forgives := syncer.ParseErrorHandler
	syncer.ParseErrorHandler = func(evt *event.Event, err error) bool {
		return evt.Type == event.StateMember || forgives(evt, err)
	}

	syncer.OnSync(c.noteEncrypted)
	syncer.OnSync(c.synced)
	syncer.OnSync(func(context.Context, *mautrix.RespSync, string) bool { caughtUp(); return true })
	syncer.OnSync(c.backup.changed)
	syncer.OnEvent(c.client.StateStoreSyncHandler)
	syncer.OnEventType(event.StateMember, c.machine.HandleMemberEvent)
	syncer.OnEventType(event.StateHistoryVisibility, c.machine.HandleHistoryVisibility)
}

// synced takes over what a sync response brought beside the rooms.
func (c *crypt) synced(ctx context.Context, response *mautrix.RespSync, since string) bool {
	// mautrix would fetch the changed devices here and now, and forget about those
	// that it can't fetch. Noted in the store, they are fetched when a key is shared.
	changed := response.DeviceLists.Changed
	err := c.sessions.MarkTrackedUsersOutdated(ctx, changed)
	if err == nil && since == "" { // a sync that begins anew says nothing of what came before
		err = c.sessions.markAllOutdated(ctx)
	}
	if err != nil && ctx.Err() == nil { // at the next start, all are
		c.log.WithError(err).Error("Could not note in the key store that devices of other users have changed")
	}
	for _, user := range changed {
		c.askAtOnce("devices of " + user.String())
		c.machine.OnDevicesChanged(ctx, user)
	}
	rest := *response
	rest.DeviceLists = mautrix.DeviceLists{}
	rest.DeviceOTKCount.SignedCurve25519 = enoughKeys // publishKeys sees to them
	rest.ToDevice.Events = slices.DeleteFunc(slices.Clone(rest.ToDevice.Events), func(evt *event.Event) bool { return c.answerRequest(ctx, evt) })
	c.publishAgain(ctx)
	c.publishing.Lock()
	defer c.publishing.Unlock()
	c.process(ctx, &rest, since)
	c.publishKeys(ctx, response.DeviceOTKCount.SignedCurve25519, lacksFallback(response))
	return true
}

// process hands a sync response to the machine, each event by itself: one that it can't bear
// must not take others with it, which may bring keys.
func (c *crypt) process(ctx context.Context, response *mautrix.RespSync, since string) {
	for _, evt := range response.ToDevice.Events {
		c.processEvent(ctx, evt)
	}
	rest := *response
	rest.ToDevice.Events = nil
	c.machine.ProcessSyncResponse(ctx, &rest, since)
}

func (c *crypt) processEvent(ctx context.Context, evt *event.Event) {
	defer session.Survive(c.log.WithField("sender", evt.Sender.String()), "taking over what was sent to the bot's device")
	key, _ := evt.Content.Raw["sender_key"].(string)
	defer c.judge(ctx, c.newSender(ctx, evt.Sender, id.SenderKey(key)))()
	evt.Type.Class = event.ToDeviceEventType
	if err := evt.Content.ParseRaw(evt.Type); err != nil {
		c.log.WithField("sender", evt.Sender.String()).WithField("type", evt.Type.Type).WithError(err).Debug("What was sent to the bot's device is malformed")
		return
	}
	if withheld, is := evt.Content.Parsed.(*event.RoomKeyWithheldEventContent); is && !c.mayWithhold(ctx, evt.Sender, withheld) {
		return
	}
	c.machine.HandleToDeviceEvent(ctx, evt)
}

const (
	enoughKeys   = 50               // one-time keys on the homeserver; half of what a device can have
	publishPause = 30 * time.Second // after keys could not be published
)

// publishKeys gives the homeserver new one-time keys when it has few, and a fallback key when
// it has none that is unused. Sync waits for that, but not for long nor often. The homeserver
// is asked how many one-time keys it has: sync may leave that out, as Dendrite's first one
// does, and of too many the device forgets the oldest, with which others go on sending. The
// caller holds publishing.
func (c *crypt) publishKeys(ctx context.Context, left int, noFallback bool) {
	if time.Now().Before(c.publishAt) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := c.forgetFallback(ctx)
	if noFallback {
		err = errors.Join(err, c.publishFallback(ctx))
	}
	if left < enoughKeys {
		err = errors.Join(err, c.shareKeys(ctx))
	}
	if errors.Is(err, mautrix.MUnknownToken) { // publishAgain follows the next login
		return
	}
	if err != nil && ctx.Err() != context.Canceled {
		c.log.WithError(err).Warn("Could not publish one-time keys or a fallback key, by which others send keys to the bot's device; it will be tried again")
		c.publishAt = time.Now().Add(publishPause)
	}
}

// answerRequest has the machine answer another device that asks for a session or for the
// account's secrets, in the background: it makes requests. It reports false for what is no
// such event.
func (c *crypt) answerRequest(ctx context.Context, evt *event.Event) bool {
	if evt.Type.Type != event.ToDeviceSecretRequest.Type && evt.Type.Type != event.ToDeviceRoomKeyRequest.Type {
		return false
	}
	request := *evt // the syncer goes on to parse the event
	request.Type.Class = event.ToDeviceEventType
	if err := request.Content.ParseRaw(request.Type); err != nil {
		return true
	}
	run := c.run
	if evt.Sender != c.client.UserID {
		// Keys go only to the account's devices and to those that had them: nobody's homeserver
		// has to be asked for others.
		asked, ok := request.Content.Parsed.(*event.RoomKeyRequestEventContent)
		if !ok {
			return true
		}
		if device, err := c.sessions.GetDevice(ctx, evt.Sender, asked.RequestingDeviceID); device == nil || err != nil {
			return true
		}
		run = func(task func(context.Context)) { c.runSome(c.answering, task) }
	}
	run(func(ctx context.Context) {
		device, _ := request.Content.Raw["requesting_device_id"].(string)
		defer c.judge(ctx, c.newDevice(ctx, request.Sender, id.DeviceID(device)))()
		if asked, ok := request.Content.Parsed.(*event.RoomKeyRequestEventContent); ok { // else the machine starts a goroutine
			c.machine.HandleRoomKeyRequest(c.client.Log.WithContext(ctx), request.Sender, asked)
			return
		}
		c.machine.HandleToDeviceEvent(ctx, &request)
	})
	return true
}
