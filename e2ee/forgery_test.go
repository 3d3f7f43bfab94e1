//go:build goolm

package e2ee_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A forgery is a session that its maker says to be another's, and an event that is
// encrypted with it.
type forgery struct {
	sessionID id.SessionID
	key       string // the session, exported
	event     *event.EncryptedEventContent
}

func forge(t testing.TB, room id.RoomID, content string) forgery {
	t.Helper()
	outbound, err := crypto.NewOutboundGroupSession(room, nil, nil)
	require.NoError(t, err)
	inbound, err := crypto.NewInboundGroupSession("", "", room, outbound.Internal.Key(), 0, 0, nil, false)
	require.NoError(t, err)
	exported, err := inbound.Internal.Export(0)
	require.NoError(t, err)
	outbound.Shared = true
	plain, err := json.Marshal(map[string]any{"room_id": room, "type": rig.MemoryType.Type, "content": json.RawMessage(content)})
	require.NoError(t, err)
	ciphertext, err := outbound.Encrypt(plain)
	require.NoError(t, err)
	return forgery{outbound.ID(), string(exported), &event.EncryptedEventContent{
		Algorithm: id.AlgorithmMegolmV1, SessionID: outbound.ID(), MegolmCiphertext: ciphertext,
	}}
}

// deviceOf returns a memory's device as others see it.
func (p *peer) deviceOf(t testing.TB, memory *matrix.Memory) *id.Device {
	t.Helper()
	client := memory.Client()
	devices, err := p.machine.FetchKeys(t.Context(), []id.UserID{client.UserID}, true)
	require.NoError(t, err)
	require.Contains(t, devices[client.UserID], client.DeviceID)
	return devices[client.UserID][client.DeviceID]
}

// handOn sends a session to a device and says that it is another's.
func (p *peer) handOn(t testing.TB, to *id.Device, room id.RoomID, sessionID id.SessionID, key string, owner *id.Device) {
	t.Helper()
	require.NoError(t, p.machine.SendEncryptedToDevice(t.Context(), to, event.ToDeviceForwardedRoomKey, event.Content{
		Parsed: &event.ForwardedRoomKeyEventContent{
			RoomKeyEventContent: event.RoomKeyEventContent{Algorithm: id.AlgorithmMegolmV1, RoomID: room, SessionID: sessionID, SessionKey: key},
			SenderKey:           owner.IdentityKey,
			SenderClaimedKey:    owner.SigningKey,
			ForwardingKeyChain:  []string{},
		},
	}))
}

// heard waits until a memory has what was sent to its device before: a state event
// that comes after it has arrived.
func (a account) heard(t testing.TB, room id.RoomID, memory *matrix.Memory, content, key string) {
	t.Helper()
	a.put(t, room, content)
	eventually(t, func() bool { keys, err := memory.Keys(); return err == nil && len(keys) == 1 && keys[0] == key }, "the memory hears nothing")
}

// Whoever hands a session on says whose it is. It is taken from nobody but a device
// of the account that was asked for it; and as the bot's own only from one that
// is cross-signed.
func TestHandedOnKeyIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		giver func(t *testing.T, bot account) account
		asked bool // Get asks for the key before it comes
	}{
		"a stranger's":                {func(t *testing.T, _ account) account { return register(t) }, false},
		"a stranger's, asked for":     {func(t *testing.T, _ account) account { return register(t) }, true},
		"an own device's, unasked":    {func(t *testing.T, bot account) account { return bot.anotherDevice(t) }, false},
		"an own device's, not signed": {func(t *testing.T, bot account) account { return bot.anotherDevice(t) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			bot := register(t)
			room := bot.newRoom(t)
			memory := open(t, bot.config(t, room))
			require.NoError(t, memory.Set("before", []byte(`1`)))
			giver := newPeer(t, test.giver(t, bot))
			device := giver.deviceOf(t, memory)
			forged := forge(t, room, `{"key":"forged"}`)
			sent, err := bot.SendMessageEvent(t.Context(), room, event.EventEncrypted, forged.event, mautrix.ReqSendEvent{DontEncrypt: true})
			require.NoError(t, err)
			if test.asked {
				bot.heard(t, room, memory, fmt.Sprintf(`{"asked":{"encrypted_val":%q}}`, sent.EventID), "asked")
				_, _, err := memory.Get("asked")
				require.ErrorIs(t, err, matrix.ErrUndecryptable)
			}
			giver.handOn(t, device, room, forged.sessionID, forged.key, device)
			// What comes after it, from the same device, shows that it has come.
			marker := giver.shareOwn(t, device, room)
			bot.heard(t, room, memory, fmt.Sprintf(`{"key":{"encrypted_val":%q}}`, sent.EventID), "key")
			require.True(t, memory.Client().Crypto.WaitForSession(t.Context(), room, "", marker, bound))
			requireUndecryptable(t, memory, room, "key", sent.EventID, "missing")
			version, err := bot.GetKeyBackupLatestVersion(t.Context())
			require.NoError(t, err)
			_, err = bot.GetKeyBackupForRoomAndSession(t.Context(), version.Version, room, forged.sessionID)
			require.ErrorIs(t, err, mautrix.MNotFound, "the forged key is in the backup")
		})
	}
}

// shareOwn sends a new session of the peer's own to a device, as is usual.
func (p *peer) shareOwn(t testing.TB, to *id.Device, room id.RoomID) id.SessionID {
	t.Helper()
	outbound, err := crypto.NewOutboundGroupSession(room, nil, nil)
	require.NoError(t, err)
	require.NoError(t, p.machine.SendEncryptedToDevice(t.Context(), to, event.ToDeviceRoomKey, outbound.ShareContent()))
	return outbound.ID()
}

// A member who has a session of another's can't have it taken for that of another
// room or sender, by which values would be lost.
func TestStoredKeyIsNotReplaced(t *testing.T) {
	bot, alice, mallory := register(t), newPeer(t, register(t)), newPeer(t, register(t))
	room := bot.newRoom(t, alice.account, mallory.account)
	conf := bot.config(t, room)
	require.NoError(t, open(t, conf).Close())
	conf.StorePath = filepath.Join(t.TempDir(), "without backup")
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	mallory.decrypt(t, room, bot.pointers(t, room)["tea"])
	device := mallory.deviceOf(t, memory)
	alice.deviceOf(t, memory)
	outbound, err := crypto.NewOutboundGroupSession(room, nil, nil)
	require.NoError(t, err)
	share := outbound.ShareContent()
	require.NoError(t, alice.machine.SendEncryptedToDevice(t.Context(), device, event.ToDeviceRoomKey, share))
	outbound.Shared = true
	ciphertext, err := outbound.Encrypt(fmt.Appendf(nil, `{"room_id":%q,"type":%q,"content":{"theirs":"milk"}}`, room, rig.MemoryType.Type))
	require.NoError(t, err)
	theirs, err := alice.SendMessageEvent(t.Context(), room, event.EventEncrypted, &event.EncryptedEventContent{
		Algorithm: id.AlgorithmMegolmV1, SessionID: outbound.ID(), MegolmCiphertext: ciphertext})
	require.NoError(t, err)
	state := fmt.Sprintf(`{"tea":{"encrypted_val":%q},"theirs":{"encrypted_val":%q}}`, bot.pointers(t, room)["tea"], theirs.EventID)
	sessionID := bot.sessionOf(t, room, "tea")
	bot.put(t, room, state)
	eventually(t, func() bool { _, ok, err := memory.Get("theirs"); return ok && err == nil }, "what another wrote can't be read")

	// Handed on, for another room and as mallory's own.
	session, err := mallory.machine.CryptoStore.GetGroupSession(t.Context(), room, sessionID)
	require.NoError(t, err)
	exported, err := session.Internal.Export(0)
	require.NoError(t, err)
	mallory.handOn(t, device, "!elsewhere:xxx", sessionID, string(exported), device)
	mallory.handOn(t, device, room, sessionID, string(exported), mallory.machine.OwnIdentity())
	// Sent as alice has sent it, for another room.
	share.AsRoomKey().RoomID = "!elsewhere:xxx"
	require.NoError(t, mallory.machine.SendEncryptedToDevice(t.Context(), device, event.ToDeviceRoomKey, share))
	marker := mallory.shareOwn(t, device, room)
	require.True(t, memory.Client().Crypto.WaitForSession(t.Context(), room, "", marker, bound))

	require.NoError(t, memory.Close())
	memory = open(t, conf) // which knows nothing but what is in the store
	rig.Has(t, memory, "tea", `"green"`)
	rig.Has(t, memory, "theirs", `"milk"`)
}
