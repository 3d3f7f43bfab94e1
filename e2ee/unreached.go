//go:build goolm

package e2ee

import (
	"context"
	"fmt"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// unreached is a room's session, and the devices of members that did not get it because no
// one-time key of theirs was to be had. mautrix does not try them again.
type unreached struct {
	session id.SessionID
	key     event.Content // from the session's beginning
	devices []*id.Device
}

// noteUnreached notes which of the members' devices did not get a session that was just
// shared, before anything is encrypted with it. The caller holds encrypting.
func (c *crypt) noteUnreached(ctx context.Context, session *crypto.OutboundGroupSession, members []id.UserID) error {
	missed := unreached{session: session.ID(), key: session.ShareContent()}
	for _, member := range members {
		devices, err := c.sessions.GetDevices(ctx, member)
		if err != nil {
			return fmt.Errorf("reading the key store: %w", err)
		}
		for deviceID, device := range devices {
			if session.Users[crypto.UserDevice{UserID: member, DeviceID: deviceID}] == crypto.OGSNotShared {
				missed.devices = append(missed.devices, device)
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.unreached, session.RoomID)
	if len(missed.devices) > 0 {
		c.unreached[session.RoomID] = missed
	}
	return nil
}

// reach tries in the background to give a session to the devices that did not get it. They get
// it from its beginning, and so can read what was written meanwhile.
func (c *crypt) reach(session *crypto.OutboundGroupSession) {
	room := session.RoomID
	c.mu.Lock()
	missed := c.unreached[room]
	c.mu.Unlock()
	what := "devices without keys in " + room.String()
	if missed.session != session.ID() || !c.due(what) {
		return
	}
	c.run(func(ctx context.Context) {
		defer c.askSoon(what)
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		left, err := c.share(ctx, missed)
		if err != nil {
			if ctx.Err() != context.Canceled {
				c.log.WithField("room", room.String()).WithError(err).Warn("Could not give the room's key to devices that had no one-time keys; the next value tries again")
			}
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.unreached[room].session != missed.session { // there is a new one
			return
		}
		delete(c.unreached, room)
		if len(left) > 0 {
			missed.devices = left
			c.unreached[room] = missed
		}
	})
}

// share gives a session to devices that did not get it, and returns those that still could
// not get it.
func (c *crypt) share(ctx context.Context, missed unreached) (left []*id.Device, err error) {
	request := &mautrix.ReqSendToDevice{Messages: make(map[id.UserID]map[id.DeviceID]*event.Content)}
	for _, device := range missed.devices {
		if request.Messages[device.UserID] == nil {
			request.Messages[device.UserID] = make(map[id.DeviceID]*event.Content)
		}
		request.Messages[device.UserID][device.DeviceID] = &missed.key
	}
	defer c.judge(ctx, false)()
	encrypted, err := c.machine.EncryptToDevices(ctx, event.ToDeviceRoomKey, request)
	if err != nil {
		return nil, err
	}
	reached := 0
	for _, device := range missed.devices {
		if encrypted.Messages[device.UserID][device.DeviceID] == nil {
			left = append(left, device)
		} else {
			reached++
		}
	}
	if reached == 0 {
		return left, nil
	}
	_, err = c.client.SendToDevice(ctx, event.ToDeviceEncrypted, encrypted)
	return left, err
}
