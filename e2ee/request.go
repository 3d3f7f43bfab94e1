//go:build goolm

package e2ee

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/id"
)

const (
	askAgainAfter = 5 * time.Minute // the same thing that was answered
	askSoonAfter  = 2 * time.Second // what nobody answered

	maxAsked  = 10000 // from which on those are forgotten that may be asked for again
	maxWanted = 10000
)

// due says whether something may be asked for now, and notes that it is.
func (c *crypt) due(what string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.asked[what]) {
		return false
	}
	if len(c.asked) >= maxAsked { // strangers can have much asked for
		maps.DeleteFunc(c.asked, func(_ string, again time.Time) bool { return time.Now().After(again) })
	}
	c.asked[what] = time.Now().Add(askAgainAfter)
	return true
}

// askSoon lets what could not be asked for be asked for again soon.
func (c *crypt) askSoon(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked[what] = time.Now().Add(askSoonAfter)
}

// askAtOnce lets something be asked for again, because the answer has changed.
func (c *crypt) askAtOnce(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.asked, what)
}

// ask asks the account's other devices for a session, unless it has just done so:
// https://spec.matrix.org/v1.16/client-server-api/#key-requests
func (c *crypt) ask(room id.RoomID, sessionID id.SessionID) {
	if !c.due("session " + sessionID.String()) {
		return
	}
	c.mu.Lock()
	for other := range c.wanted {
		if len(c.wanted) < maxWanted {
			break
		}
		delete(c.wanted, other) // members can invent as many as they like
	}
	c.wanted[sessionID] = room
	c.mu.Unlock()
	c.run(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		own := c.client.UserID
		err := c.session.Reach(ctx)
		if err == nil {
			err = c.fetchDevices(ctx, []id.UserID{own}) // by which the answer is judged
		}
		if err == nil {
			err = c.machine.SendRoomKeyRequest(ctx, room, "", sessionID, "", map[id.UserID][]id.DeviceID{own: {"*"}})
		}
		if err != nil && ctx.Err() != context.Canceled {
			c.askSoon("session " + sessionID.String())
			c.log.WithField("room", room.String()).WithError(err).Warn("Could not ask the account's other devices for a missing key")
		}
	})
}

// handedOn says why a session that another device hands on is not to be taken.
// Whoever hands it on says whose it is, and nothing proves that. So it has to be a
// device of the account that was asked for it, and a cross-signed one if the session
// is to be the bot's own.
func (c *crypt) handedOn(ctx context.Context, session *crypto.InboundGroupSession) error {
	own := c.machine.OwnIdentity()
	c.mu.Lock()
	room, wanted := c.wanted[session.ID()]
	c.mu.Unlock()
	switch {
	case session.SourceUser != own.UserID:
		return fmt.Errorf("%s hands it on, and only the account's own devices may do that", session.SourceUser)
	case !wanted || room != session.RoomID:
		return errors.New("another device hands it on, and nobody has asked for it")
	case len(session.ForwardingChains) == 0:
		return errors.New("it is not said which device hands it on")
	}
	key := session.ForwardingChains[len(session.ForwardingChains)-1] // from the machine: who encrypted the message
	device, err := c.sessions.FindDeviceByKey(ctx, own.UserID, id.IdentityKey(key))
	switch {
	case err != nil:
		return fmt.Errorf("finding out who hands it on: %w", err)
	case device == nil || device.Deleted:
		return errors.New("a device hands it on that is none of the account's")
	case session.SenderKey == own.IdentityKey:
		signed, err := c.crossSigned(ctx, device)
		if err != nil || !signed {
			return errors.Join(errors.New("a device that is not cross-signed hands it on as the bot's own"), err)
		}
	}
	return nil
}
