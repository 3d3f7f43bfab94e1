//go:build goolm

package e2ee

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// Encrypt implements room.Cipher.
//
// mautrix's own EncryptMegolmEvent is not used because it copies a member called
// m.relates_to, which can be a key of the memory, out of the content into the
// clear, and writes each "<" as six bytes.
func (c *crypt) Encrypt(ctx context.Context, room id.RoomID, eventType event.Type, content json.RawMessage) (json.RawMessage, error) {
	encrypted, err := c.encrypt(ctx, room, eventType, content)
	if err != nil {
		return nil, err
	}
	return json.Marshal(encrypted)
}

func (c *crypt) encrypt(ctx context.Context, room id.RoomID, eventType event.Type, content json.RawMessage) (*event.EncryptedEventContent, error) {
	if err := c.session.Reach(ctx); err != nil {
		return nil, err
	}
	defer c.encrypting.WithLock(room)()
	session, err := c.outbound(ctx, room)
	if err != nil {
		return nil, err
	}
	var plain bytes.Buffer
	encoder := json.NewEncoder(&plain)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(struct {
		RoomID  id.RoomID       `json:"room_id"`
		Type    string          `json:"type"`
		Content json.RawMessage `json:"content"`
	}{room, eventType.Type, content}); err != nil {
		return nil, err
	}
	ciphertext, err := session.Encrypt(bytes.TrimSpace(plain.Bytes()))
	if err != nil {
		return nil, err
	}
	return &event.EncryptedEventContent{
		Algorithm:        id.AlgorithmMegolmV1,
		SessionID:        session.ID(),
		MegolmCiphertext: ciphertext,
		// Both are deprecated, and older clients need them.
		DeviceID:  c.client.DeviceID,
		SenderKey: c.machine.OwnIdentity().IdentityKey,
	}, nil
}

// outbound returns a session that all members of the room have. It shares a new
// one if the last one is used up, or if members or their devices have changed. None is
// used that the store could not take, or whose receivers it could not.
func (c *crypt) outbound(ctx context.Context, room id.RoomID) (*crypto.OutboundGroupSession, error) {
	c.publishAgain(ctx)
	for range 8 {
		session, err := c.sessions.GetOutboundGroupSession(ctx, room)
		if err != nil {
			return nil, err
		}
		if session != nil && session.Shared && !session.Expired() {
			c.reach(session)
			return session, nil
		}
		// What changes from here on is not surely taken into account.
		before := c.sessions.changes(room)
		members, err := c.members(ctx, room)
		if err != nil {
			return nil, fmt.Errorf("asking who is in the room, to share the key: %w", err)
		}
		watched, store := watchStore(ctx)
		err = c.fetchDevices(watched, members)
		if broken := store.failure(); broken != nil {
			return nil, c.store.unwritableNow(broken)
		} else if err != nil {
			return nil, fmt.Errorf("asking which devices the room's members have, to share the key: %w", err)
		}
		if c.sessions.changes(room) != before {
			continue
		}
		if err := c.sessions.forgetUnproven(ctx); err != nil {
			return nil, fmt.Errorf("reading the key store: %w", err)
		}
		err = c.try(watched, func(ctx context.Context) error { return c.shareSession(ctx, room, members) })
		if broken := store.failure(); broken != nil {
			return nil, errors.Join(c.store.unwritableNow(broken), c.sessions.RemoveOutboundGroupSession(ctx, room))
		} else if err != nil {
			return nil, fmt.Errorf("sharing the key with the room's members: %w", err)
		}
		if c.sessions.changes(room) != before {
			if err := c.sessions.RemoveOutboundGroupSession(ctx, room); err != nil {
				return nil, err
			}
			continue
		}
		if session, err = c.sessions.GetOutboundGroupSession(ctx, room); err == nil && session != nil {
			err = c.noteUnreached(ctx, session, members)
		}
		if err != nil {
			return nil, err
		}
		c.backup.uploadNow(ctx)
	}
	return nil, errors.New("the members of the room change too fast to share a key with them")
}

// shareSession has the machine share a room's session. What homeservers answer there can be
// anything, and mautrix does not bear all of it; the caller may be a goroutine that ends the
// process if it panics.
func (c *crypt) shareSession(ctx context.Context, room id.RoomID, members []id.UserID) (err error) {
	defer c.judge(ctx, false)()
	defer func() {
		if fault := recover(); fault != nil {
			err = errors.Join(fmt.Errorf("what the homeserver says of them is malformed: mautrix fails on it (%T)", fault),
				c.sessions.RemoveOutboundGroupSession(ctx, room))
		}
	}()
	return c.machine.ShareGroupSession(ctx, room, members)
}

// members asks the homeserver who is in a room or invited to it. Sync says it
// too, but perhaps not yet.
func (c *crypt) members(ctx context.Context, room id.RoomID) ([]id.UserID, error) {
	var response *mautrix.RespMembers
	if err := c.try(ctx, func(ctx context.Context) (err error) {
		response, err = c.client.Members(ctx, room)
		return err
	}); err != nil {
		return nil, err
	}
	var members []id.UserID
	for _, evt := range response.Chunk {
		switch evt.Content.AsMember().Membership {
		case event.MembershipJoin, event.MembershipInvite:
			members = append(members, id.UserID(evt.GetStateKey()))
		}
	}
	return members, nil
}
