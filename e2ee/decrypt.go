//go:build goolm

package e2ee

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// Decrypt implements room.Cipher.
func (c *crypt) Decrypt(ctx context.Context, evt *event.Event) (string, json.RawMessage, error) {
	decrypted, err := c.decrypt(ctx, evt, false)
	if err != nil {
		return "", nil, err
	}
	return decrypted.Type.Type, decrypted.Content.VeryRaw, nil
}

// decrypt returns the event that was encrypted. A message may say outside of the
// ciphertext what it answers to, and its key may be a little late. A value has
// nothing there, where the homeserver could put it, and its missing key is asked for.
func (c *crypt) decrypt(ctx context.Context, evt *event.Event, message bool) (*event.Event, error) {
	evt.Type.Class = event.MessageEventType
	if err := evt.Content.ParseRaw(evt.Type); err != nil && !errors.Is(err, event.ErrContentAlreadyParsed) {
		return nil, fmt.Errorf("its content is malformed: %w", err)
	}
	content := evt.Content.AsEncrypted()
	if content.Algorithm != id.AlgorithmMegolmV1 {
		return nil, fmt.Errorf("it is encrypted by the algorithm %q, which is not known", content.Algorithm)
	}
	if !message {
		content.RelatesTo = nil
	}
	if err := c.usable(ctx); err != nil {
		return nil, err
	}
	session, err := c.inbound(ctx, evt, content.SessionID, !message)
	if err != nil {
		return nil, err
	}
	// Before the decryption, which notes that this place of the session belongs
	// to this event.
	if err := c.belongs(ctx, session, evt.Sender); err != nil && !c.vouched(ctx, session, evt.Sender) {
		return nil, err
	}
	decrypted, err := c.decryptMegolm(ctx, evt)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return nil, fmt.Errorf("its key is there, but what it holds is no JSON, such as the NaN and Infinity of Python's programs: %w; store another value under the key", err)
	}
	return decrypted, err
}

// decryptMegolm has the machine decrypt an event. What members of the room encrypt can be
// anything, and mautrix does not bear all of it, as the plaintext "null".
func (c *crypt) decryptMegolm(ctx context.Context, evt *event.Event) (decrypted *event.Event, err error) {
	defer c.judge(ctx, false)()
	defer func() {
		if fault := recover(); fault != nil {
			decrypted, err = nil, fmt.Errorf("what it holds is malformed: mautrix fails on it (%T)", fault)
		}
	}()
	return c.machine.DecryptMegolmEvent(ctx, evt)
}

// inbound returns the session with which an event was encrypted. If it is
// missing and wanted, it looks into the key backup and asks the account's other
// devices.
func (c *crypt) inbound(ctx context.Context, evt *event.Event, sessionID id.SessionID, wanted bool) (*crypto.InboundGroupSession, error) {
	room := evt.RoomID
	session, err := c.sessions.GetGroupSession(ctx, room, sessionID)
	if session == nil && c.isLate() { // the key may be waiting there
		if err := c.catchUp(ctx); err != nil {
			return nil, fmt.Errorf("the key %s is missing here, and %w", sessionID, err)
		}
		session, err = c.sessions.GetGroupSession(ctx, room, sessionID)
	}
	var withheld *event.RoomKeyWithheldEventContent
	isWithheld := errors.As(err, &withheld)
	switch {
	case session != nil:
		return session, nil
	case err != nil && !isWithheld:
		return nil, fmt.Errorf("reading the key store: %w", err)
	}
	if wanted {
		if session := c.backup.find(ctx, room, sessionID, false); session != nil {
			return session, nil
		}
		c.ask(room, sessionID)
	}
	// Others can say that of any key, whose ID is no secret.
	if isWithheld && c.mayWithhold(ctx, evt.Sender, withheld) {
		return nil, fmt.Errorf("its sender has not given the bot the key %s: %w", sessionID, err)
	}
	return nil, fmt.Errorf("the key %s is missing: %w", sessionID, crypto.ErrNoSessionFound)
}

// belongs says if a session is not known to be the sender's: anybody in the room
// who has a session can send an event that decrypts with it.
func (c *crypt) belongs(ctx context.Context, session *crypto.InboundGroupSession, sender id.UserID) error {
	own := c.machine.OwnIdentity()
	fromBackup := session.KeySource == id.KeySourceBackup
	switch {
	case session.KeySource == id.KeySourceForward && session.SourceUser != own.UserID: // as earlier versions took
		return fmt.Errorf("its key was handed on by %s, and only the account's own devices may do that", session.SourceUser)
	case session.SenderKey == own.IdentityKey && (sender != own.UserID || session.SigningKey != own.SigningKey):
		return fmt.Errorf("%s sent it, but the key that it is encrypted with is the bot's own", sender)
	case fromBackup && session.SourceUser == sender: // the bot has noted in the backup that it is
		return nil
	case fromBackup && session.SourceUser != "":
		return fmt.Errorf("%s sent it, but the key that it is encrypted with is that of %s", sender, session.SourceUser)
	case fromBackup && session.SenderKey == own.IdentityKey:
		return errors.New("its key is in the key backup as the bot's own, and nothing proves that the bot has put it there")
	case session.SenderKey == own.IdentityKey:
		return nil
	}
	device, err := c.deviceOf(ctx, sender, session.SenderKey)
	switch {
	case err != nil:
		return fmt.Errorf("finding out whose the key is: %w", err)
	case device != nil && device.SigningKey == session.SigningKey:
		return nil
	case device == nil && sender == own.UserID && session.KeySource == id.KeySourceForward:
		return nil // by a device of the account, as that of one that is gone
	case device == nil && sentByGone(session, own.UserID) && session.SourceUser == sender:
		return nil
	default:
		return fmt.Errorf("the key that it is encrypted with is not known to be that of its sender, %s", sender)
	}
}

// sentByGone says whether a session counts as that of the user who sent it, if the device is
// gone before the bot has ever heard of it, as one that wrote while the bot was down.
//
// Nobody else could have sent it: who encrypts for the bot's device has to have the private
// key that the session is said to be of, and names, encrypted, the user who sends it;
// mautrix takes it only if the homeserver says the same, and if what the device says of itself
// (MSC4147) agrees and bears its signature. A homeserver that lies here could as well lie
// about the user's devices. The account's own have to be known all the same.
func sentByGone(session *crypto.InboundGroupSession, own id.UserID) bool {
	return session.KeySource == id.KeySourceDirect && session.SourceUser != own
}

// vouched says whether a session of which a device of the account's is gone is in the key backup
// as the account's: a device that has the backup's key has put it there. That is so for what the
// operator's tool has written.
func (c *crypt) vouched(ctx context.Context, session *crypto.InboundGroupSession, sender id.UserID) bool {
	own := c.client.UserID
	if sender != own || session.SourceUser != own || session.KeySource != id.KeySourceDirect {
		return false
	}
	found := c.backup.find(ctx, session.RoomID, session.ID(), true)
	return found != nil && found.SenderKey == session.SenderKey && c.belongs(ctx, found, sender) == nil
}

// deviceOf returns a user's device by its key, or nil if the homeserver knows of none.
func (c *crypt) deviceOf(ctx context.Context, user id.UserID, key id.SenderKey) (*id.Device, error) {
	device, err := c.sessions.FindDeviceByKey(ctx, user, key)
	if err == nil && device == nil {
		return c.lookUp(ctx, user, key)
	}
	return device, err
}

// lookUp asks the homeserver for a sender's device, unless it was asked just now.
// Who comes while another asks waits for that answer.
func (c *crypt) lookUp(ctx context.Context, sender id.UserID, key id.SenderKey) (*id.Device, error) {
	if err := c.session.Reach(ctx); err != nil {
		return nil, err
	}
	defer c.lookups.WithLock(sender)()
	if !c.due("devices of " + sender.String()) {
		return c.sessions.FindDeviceByKey(ctx, sender, key)
	}
	devices, err := c.queryDevices(ctx, []id.UserID{sender})
	if _, answered := devices[sender]; !answered { // as when the sender's homeserver is down
		c.askSoon("devices of " + sender.String())
	}
	if err != nil {
		return nil, err
	}
	for _, device := range devices[sender] {
		if device.IdentityKey == key {
			return device, nil
		}
	}
	return nil, nil
}
