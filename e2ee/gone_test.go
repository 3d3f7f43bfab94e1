//go:build goolm

package e2ee_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/rig"
)

// What a member's new device wrote while the bot was down is read, also if that device is gone
// before the bot is back, and with a new store after that. Somebody else who has the session
// can't pass for the member by it.
func TestDeviceThatIsGoneBeforeTheBotIsBack(t *testing.T) {
	bot, alice, mallory := register(t), register(t), newPeer(t, register(t))
	room := bot.newRoom(t, alice, mallory.account)
	conf := bot.config(t, room)
	memory := open(t, conf)
	device := mallory.deviceOf(t, memory)
	require.NoError(t, memory.Close())

	phone := newPeer(t, alice.anotherDevice(t))
	theirs := phone.encrypt(t, room, valueType, `{"theirs":"milk"}`)
	mallory.decrypt(t, room, theirs)
	// A session of mallory's, and an event that somebody else sends with it.
	outbound, err := crypto.NewOutboundGroupSession(room, nil, nil)
	require.NoError(t, err)
	require.NoError(t, mallory.machine.SendEncryptedToDevice(t.Context(), device, event.ToDeviceRoomKey, outbound.ShareContent()))
	outbound.Shared = true
	ciphertext, err := outbound.Encrypt(fmt.Appendf(nil, `{"room_id":%q,"type":%q,"content":{"forged":"poison"}}`, room, rig.MemoryType.Type))
	require.NoError(t, err)
	forged, err := phone.SendMessageEvent(t.Context(), room, event.EventEncrypted, &event.EncryptedEventContent{
		Algorithm: id.AlgorithmMegolmV1, SessionID: outbound.ID(), MegolmCiphertext: ciphertext})
	require.NoError(t, err)
	_, err = phone.Logout(t.Context())
	require.NoError(t, err)
	bot.put(t, room, fmt.Sprintf(`{"theirs":{"encrypted_val":%q},"forged":{"encrypted_val":%q}}`, theirs, forged.EventID))

	memory = open(t, conf)
	eventually(t, func() bool { _, ok, err := memory.Get("theirs"); return ok && err == nil }, "what a device wrote that is gone can't be read")
	rig.Has(t, memory, "theirs", `"milk"`)
	requireUndecryptable(t, memory, room, "forged", forged.EventID, "not known to be that of its sender")
	bot.backedUp(t, 2)
	require.NoError(t, memory.Close())

	conf.RecoveryKey = recoveryKey(t, conf.StorePath)
	conf.StorePath = filepath.Join(t.TempDir(), "new")
	memory = open(t, conf)
	rig.Has(t, memory, "theirs", `"milk"`)
	requireUndecryptable(t, memory, room, "forged", forged.EventID, mallory.UserID.String())
}

// What another device of the bot's own account wrote while the bot was down, and that is gone before the
// bot is back, is read if that device has put its key into the key backup, and by nothing else.
func TestOwnDeviceThatIsGoneBeforeTheBotIsBack(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	conf := bot.config(t, room)
	require.NoError(t, open(t, conf).Close())
	for key, recovery := range map[string]string{"kept": recoveryKey(t, conf.StorePath), "alone": ""} {
		visit := conf
		visit.StorePath, visit.RecoveryKey = filepath.Join(t.TempDir(), "new"), recovery
		memory := open(t, visit)
		require.NoError(t, memory.Set(key, []byte(`"milk"`)))
		device := memory.Client()
		require.NoError(t, memory.Close())
		again, err := mautrix.NewClient(bot.HomeserverURL.String(), device.UserID, device.AccessToken)
		require.NoError(t, err)
		_, err = again.Logout(t.Context())
		require.NoError(t, err)
		again.Client.CloseIdleConnections()
	}

	memory := open(t, conf)
	eventually(t, func() bool { _, ok, err := memory.Get("kept"); return ok && err == nil }, "what the account's other device wrote can't be read")
	rig.Has(t, memory, "kept", `"milk"`)
	requireUndecryptable(t, memory, room, "alone", bot.pointers(t, room)["alone"], "not known to be that of its sender")
}
