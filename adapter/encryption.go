package adapter

import (
	"context"
	"fmt"
	"sync"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// Encryption knows which rooms are encrypted, as far as it was said or asked.
type encryption struct {
	ever  func(room id.RoomID, now bool) (bool, error) // bridge.Encrypted of the memory
	mu    sync.Mutex                                   // owns rooms
	rooms map[id.RoomID]bool
}

// note takes over what a sync says of a room. Once encrypted, a room stays so
// (Matrix spec, "m.room.encryption").
func (e *encryption) note(room id.RoomID, news *mautrix.SyncJoinedRoom) {
	if session.BecomesEncrypted(news) {
		e.mu.Lock()
		e.rooms[room] = true
		e.mu.Unlock()
	}
}

// isEncrypted says whether what is sent to a room must be encrypted: whether it ever was.
func (a *adapter) isEncrypted(ctx context.Context, room id.RoomID) (bool, error) {
	now, err := a.nowEncrypted(ctx, room)
	if err != nil {
		return false, fmt.Errorf("reading whether the room is encrypted: %w", err)
	}
	return a.encrypted.ever(room, now)
}

// nowEncrypted says whether a room's state says that it is encrypted, or said so since the bot
// started. Where sync has not said it, the homeserver is asked once; later changes come by sync.
func (a *adapter) nowEncrypted(ctx context.Context, room id.RoomID) (bool, error) {
	a.encrypted.mu.Lock()
	known, ok := a.encrypted.rooms[room]
	a.encrypted.mu.Unlock()
	if ok {
		return known, nil
	}
	_, found, err := a.session.Standing(ctx, room, event.StateEncryption, "")
	if err != nil {
		return false, err
	}
	a.encrypted.mu.Lock()
	defer a.encrypted.mu.Unlock()
	a.encrypted.rooms[room] = a.encrypted.rooms[room] || found
	return a.encrypted.rooms[room], nil
}

// encrypt returns a message as it is sent to an encrypted room.
func (a *adapter) encrypt(ctx context.Context, room id.RoomID, message *event.MessageEventContent) (*event.EncryptedEventContent, error) {
	ciphertext, err := a.client.Crypto.Encrypt(ctx, room, event.EventMessage, message)
	if err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	return ciphertext, nil
}

// hearEncrypted hears what an encrypted event says, or sets it aside if its key has not come.
func (a *adapter) hearEncrypted(r *room, evt *event.Event) {
	if parse(evt) != nil {
		a.malformed(r, evt)
		return
	}
	content := evt.Content.AsEncrypted()
	if content.SessionID == "" {
		return // redacted
	}
	if a.client.Crypto == nil {
		if !r.unread {
			r.unread = true
			a.log(r.id).Warn("The bot can't read in this room, as it is encrypted: enable encryption with package e2ee")
		}
		return
	}
	// No key comes under an ID that is none.
	if len(content.SessionID) == session.MegolmIDLength && !a.hasKey(r, evt) {
		if a.ctx.Err() == nil {
			a.setAside(r, evt)
		}
		return
	}
	if err := a.reveal(r, evt); err != nil && a.ctx.Err() == nil {
		a.log(r.id).WithField("event", evt.ID.String()).WithError(err).Warn("A message could not be decrypted, and was not heard")
	}
}

// reveal hears what an encrypted event says. Only what people say counts: what the
// homeserver has to allow, as a redaction or who is in the room, it can't see there.
func (a *adapter) reveal(r *room, evt *event.Event) error {
	defer session.Survive(a.log(r.id).WithField("event", evt.ID.String()), "decrypting an event")
	decrypted, err := a.client.Crypto.Decrypt(a.ctx, evt)
	if err != nil {
		return err
	}
	decrypted.RoomID = r.id
	if decrypted.Type == event.EventMessage || decrypted.Type == event.EventReaction {
		a.hear(r, decrypted)
	}
	return nil
}
