//go:build goolm

package e2ee_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/backup"
	"maunium.net/go/mautrix/crypto/ssss"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// A peer is a member of a room with a client of its own, which is plain mautrix.
type peer struct {
	account
	machine *crypto.OlmMachine
	since   string
}

// newPeer gives an account's device keys of its own.
func newPeer(t testing.TB, a account) *peer {
	t.Helper()
	states := mautrix.NewMemoryStateStore()
	a.Client.StateStore = states
	machine := crypto.NewOlmMachine(a.Client, nil, crypto.NewMemoryStore(nil), states.(crypto.StateStore))
	machine.AllowKeyShare = func(context.Context, *id.Device, event.RequestedKeyInfo) *crypto.KeyShareRejection { return nil }
	require.NoError(t, machine.Load(t.Context()))
	require.NoError(t, machine.ShareKeys(t.Context(), -1))
	return &peer{account: a, machine: machine}
}

// sync takes over what is new.
func (p *peer) sync(t testing.TB) {
	t.Helper()
	response, err := p.FullSyncRequest(t.Context(), mautrix.ReqSync{Since: p.since})
	require.NoError(t, err)
	p.machine.ProcessSyncResponse(t.Context(), response, p.since)
	for room, news := range response.Rooms.Join {
		for _, evt := range append(news.State.Events, news.Timeline.Events...) {
			evt.RoomID = room
			if evt.StateKey != nil {
				evt.Type.Class = event.StateEventType
				_ = evt.Content.ParseRaw(evt.Type)
				mautrix.UpdateStateStore(t.Context(), p.StateStore, evt)
			}
		}
	}
	p.since = response.NextBatch
}

// decrypt returns what an event holds. Its key may be on its way still.
func (p *peer) decrypt(t testing.TB, room id.RoomID, eventID id.EventID) (evt *event.Event) {
	t.Helper()
	var err error
	eventually(t, func() bool {
		evt, err = p.tryDecrypt(t, room, eventID)
		return err == nil || !errors.Is(err, crypto.ErrNoSessionFound)
	}, "the key of event %s does not come", eventID)
	require.NoError(t, err)
	return evt
}

// tryDecrypt returns what an event holds, if its key has come.
func (p *peer) tryDecrypt(t testing.TB, room id.RoomID, eventID id.EventID) (*event.Event, error) {
	t.Helper()
	p.sync(t)
	evt, err := p.GetEvent(t.Context(), room, eventID)
	require.NoError(t, err)
	evt.RoomID = room
	require.NoError(t, evt.Content.ParseRaw(evt.Type))
	return p.machine.DecryptMegolmEvent(t.Context(), evt)
}

// encrypt sends content encrypted as an event of the memory's type.
func (p *peer) encrypt(t testing.TB, room id.RoomID, eventType event.Type, content string) id.EventID {
	t.Helper()
	p.sync(t)
	encrypted, err := p.machine.EncryptMegolmEvent(t.Context(), room, eventType, json.RawMessage(content))
	if crypto.IsShareError(err) {
		members, memberErr := p.StateStore.GetRoomJoinedOrInvitedMembers(t.Context(), room)
		require.NoError(t, memberErr)
		require.NoError(t, p.machine.ShareGroupSession(t.Context(), room, members))
		encrypted, err = p.machine.EncryptMegolmEvent(t.Context(), room, eventType, json.RawMessage(content))
	}
	require.NoError(t, err)
	sent, err := p.SendMessageEvent(t.Context(), room, event.EventEncrypted, encrypted)
	require.NoError(t, err)
	return sent.EventID
}

// openStorage opens the account's secret storage.
func (p *peer) openStorage(t testing.TB, recovery string) *ssss.Key {
	t.Helper()
	keyID, data, err := p.machine.SSSS.GetDefaultKeyData(t.Context())
	require.NoError(t, err)
	storage, err := data.VerifyRecoveryKey(keyID, recovery)
	require.NoError(t, err)
	return storage
}

// restore takes over the account's key backup.
func (p *peer) restore(t testing.TB, recovery string) {
	t.Helper()
	raw, err := p.machine.SSSS.GetDecryptedAccountData(t.Context(), event.AccountDataMegolmBackupKey, p.openStorage(t, recovery))
	require.NoError(t, err)
	key, err := backup.MegolmBackupKeyFromBytes(raw)
	require.NoError(t, err)
	_, err = p.machine.DownloadAndStoreLatestKeyBackup(t.Context(), key)
	require.NoError(t, err)
}
