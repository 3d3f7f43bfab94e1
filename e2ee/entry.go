//go:build goolm

package e2ee

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"go.mau.fi/util/jsonbytes"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/backup"
	"maunium.net/go/mautrix/id"
)

// An entry is a session as it stands in the backup's session_data.
//
// Whoever has the backup's public key, as the homeserver does, can make entries;
// the mac of the specification covers nothing. So the bot authenticates its own,
// with a key that follows from the private one, as MSC4048 proposes. Other clients
// pass over what they do not know.
type entry struct {
	backup.EncryptedSessionData[entryData]
	Authentication jsonbytes.UnpaddedBytes `json:"dev.joe.mac,omitempty"`
}

// entryData is what is encrypted in an entry.
type entryData struct {
	backup.MegolmSessionData
	// Sender is the user whose session it is, if the bot knows that: once the
	// sender's device is gone nobody else can tell.
	Sender id.UserID `json:"dev.joe.sender,omitempty"`
}

// authenticate returns the authentication code of an entry, for its place.
func (e *entry) authenticate(key *backup.MegolmBackupKey, room id.RoomID, sessionID id.SessionID) ([]byte, error) {
	secret, err := hkdf.Key(sha256.New, key.Bytes(), nil, "dev.joe.mac", sha256.Size)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal([]any{room, sessionID, &e.Ephemeral, e.Ciphertext})
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write(text)
	return mac.Sum(nil), nil
}

// seal makes the backup's entry of a session.
func (o *openedBackup) seal(ctx context.Context, session *crypto.InboundGroupSession) (*mautrix.ReqKeyBackupData, error) {
	first := session.Internal.FirstKnownIndex()
	exported, err := session.Internal.Export(first)
	if err != nil {
		return nil, err
	}
	sender, err := o.senderOf(ctx, session)
	if err != nil {
		return nil, err
	}
	sealed, err := backup.EncryptSessionData(o.key, entryData{backup.MegolmSessionData{
		Algorithm:          id.AlgorithmMegolmV1,
		ForwardingKeyChain: session.ForwardingChains,
		SenderClaimedKeys:  backup.SenderClaimedKeys{Ed25519: session.SigningKey},
		SenderKey:          session.SenderKey,
		SessionKey:         string(exported),
		SharedHistory:      session.SharedHistory,
	}, sender})
	if err != nil {
		return nil, err
	}
	e := &entry{EncryptedSessionData: *sealed}
	if e.Authentication, err = e.authenticate(o.key, session.RoomID, session.ID()); err != nil {
		return nil, err
	}
	text, err := json.Marshal(e)
	return &mautrix.ReqKeyBackupData{
		FirstMessageIndex: int(first),
		ForwardedCount:    len(session.ForwardingChains),
		IsVerified:        sender != "",
		SessionData:       text,
	}, err
}

// senderOf returns whose session it is, if that is known.
func (o *openedBackup) senderOf(ctx context.Context, session *crypto.InboundGroupSession) (id.UserID, error) {
	switch session.KeySource {
	case id.KeySourceBackup: // of another version
		return session.SourceUser, nil
	case id.KeySourceDirect:
		device, err := o.sessions.FindDeviceByKey(ctx, session.SourceUser, session.SenderKey)
		if err != nil {
			return "", fmt.Errorf("reading the key store: %w", err)
		}
		if device != nil && device.SigningKey == session.SigningKey || device == nil && sentByGone(session, o.client.UserID) {
			return session.SourceUser, nil
		}
	}
	return "", nil
}

// take stores the session of an entry. If the bot has put the entry there, the
// session's source is the user whose session it is; else there is none, and known says
// that the store has the session already, in whose place such an entry's must not go.
func (o *openedBackup) take(ctx context.Context, room id.RoomID, sessionID id.SessionID, e *entry, known bool) (*crypto.InboundGroupSession, error) {
	if e.Ephemeral.PublicKey == nil {
		return nil, errors.New("the entry is malformed")
	}
	code, err := e.authenticate(o.key, room, sessionID) // before the decryption, which overwrites the ciphertext
	if err != nil {
		return nil, err
	}
	data, err := e.Decrypt(o.key)
	if err != nil {
		return nil, err
	}
	session, err := o.machine.ImportRoomKeyFromBackupWithoutSaving(ctx, o.version, room, nil, sessionID, &data.MegolmSessionData)
	if err != nil {
		return nil, err
	}
	switch {
	case hmac.Equal(code, e.Authentication):
		session.SourceUser = data.Sender
	case known:
		return nil, errors.New("nothing proves that the bot has put it there")
	}
	return session, o.machine.StoreGroupSession(ctx, session)
}
