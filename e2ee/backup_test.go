//go:build goolm

package e2ee_test

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/backup"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// plant puts sessions into a key backup as the homeserver itself can, by the
// backup's public key.
func (a account) plant(t testing.TB, room id.RoomID, owner *id.Device, sessions ...forgery) {
	t.Helper()
	version, err := a.GetKeyBackupLatestVersion(t.Context())
	require.NoError(t, err)
	raw, err := base64.RawStdEncoding.DecodeString(string(version.AuthData.PublicKey))
	require.NoError(t, err)
	public, err := ecdh.X25519().NewPublicKey(raw)
	require.NoError(t, err)
	request := &mautrix.ReqRoomKeyBackup{Sessions: make(map[id.SessionID]mautrix.ReqKeyBackupData)}
	for _, session := range sessions {
		sealed, err := backup.EncryptSessionDataWithPubkey(public, &backup.MegolmSessionData{
			Algorithm:          id.AlgorithmMegolmV1,
			SenderKey:          owner.IdentityKey,
			SenderClaimedKeys:  backup.SenderClaimedKeys{Ed25519: owner.SigningKey},
			SessionKey:         session.key,
			ForwardingKeyChain: []string{},
		})
		require.NoError(t, err)
		text, err := json.Marshal(sealed)
		require.NoError(t, err)
		request.Sessions[session.sessionID] = mautrix.ReqKeyBackupData{SessionData: text}
	}
	_, err = a.PutKeysInBackupForRoom(t.Context(), version.Version, room, request)
	require.NoError(t, err)
}

// backedUp waits until so many sessions are in the account's key backup.
func (a account) backedUp(t testing.TB, sessions int) {
	t.Helper()
	eventually(t, func() bool {
		version, err := a.GetKeyBackupLatestVersion(t.Context())
		return err == nil && version.Count >= sessions
	}, "the keys do not come into the backup")
}

// A homeserver that puts a key into the backup and sends an event in the bot's name
// forges no value, whether the store is there, or was lost, or was of a device that
// is gone.
func TestKeyThatTheHomeserverPutIntoTheBackup(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	conf := bot.config(t, room)
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	bot.backedUp(t, 1)
	gone := *other.deviceOf(t, memory)
	gone.IdentityKey, gone.SigningKey = "a device that is gone", "a device that is gone"
	tea := bot.pointers(t, room)["tea"]

	forged := make(map[string]id.EventID)
	for name, device := range map[string]*id.Device{"present": other.deviceOf(t, memory), "gone": &gone} {
		session := forge(t, room, fmt.Sprintf(`{%q:"forged"}`, name))
		bot.plant(t, room, device, session)
		sent, err := bot.SendMessageEvent(t.Context(), room, event.EventEncrypted, session.event, mautrix.ReqSendEvent{DontEncrypt: true})
		require.NoError(t, err)
		forged[name] = sent.EventID
	}
	bot.put(t, room, fmt.Sprintf(`{"tea":{"encrypted_val":%q},"present":{"encrypted_val":%q},"gone":{"encrypted_val":%q}}`, tea, forged["present"], forged["gone"]))
	eventually(t, func() bool { keys, err := memory.Keys(); return err == nil && len(keys) == 3 }, "the memory does not see what was written")
	requireUndecryptable(t, memory, room, "present", forged["present"], "nothing proves")
	requireUndecryptable(t, memory, room, "gone", forged["gone"], "not known to be that of its sender")
	rig.Has(t, memory, "tea", `"green"`)
	require.NoError(t, memory.Close())

	conf.RecoveryKey = recoveryKey(t, conf.StorePath)
	// To a new store with its new device, the old one is another of the account's.
	conf.StorePath = filepath.Join(t.TempDir(), "new")
	memory = open(t, conf)
	requireUndecryptable(t, memory, room, "gone", forged["gone"], "not known to be that of its sender")
	rig.Has(t, memory, "tea", `"green"`)
}

// What others wrote stays readable with a new store when their device is gone, for
// the bot has noted whose it was. A member who has the key can't take that away.
func TestOthersValueOutlivesTheirDeviceAndTheStore(t *testing.T) {
	bot, alice, mallory := register(t), newPeer(t, register(t)), newPeer(t, register(t))
	room := bot.newRoom(t, alice.account, mallory.account)
	conf := bot.config(t, room)
	memory := open(t, conf)
	outbound, err := crypto.NewOutboundGroupSession(room, nil, nil)
	require.NoError(t, err)
	share := outbound.ShareContent()
	require.NoError(t, alice.machine.SendEncryptedToDevice(t.Context(), alice.deviceOf(t, memory), event.ToDeviceRoomKey, share))
	outbound.Shared = true
	ciphertext, err := outbound.Encrypt(fmt.Appendf(nil, `{"room_id":%q,"type":%q,"content":{"theirs":"milk"}}`, room, rig.MemoryType.Type))
	require.NoError(t, err)
	theirs, err := alice.SendMessageEvent(t.Context(), room, event.EventEncrypted, &event.EncryptedEventContent{
		Algorithm: id.AlgorithmMegolmV1, SessionID: outbound.ID(), MegolmCiphertext: ciphertext})
	require.NoError(t, err)
	bot.put(t, room, fmt.Sprintf(`{"theirs":{"encrypted_val":%q}}`, theirs.EventID))
	bot.backedUp(t, 1)
	require.NoError(t, memory.Close())
	_, err = alice.Logout(t.Context())
	require.NoError(t, err)

	conf.RecoveryKey = recoveryKey(t, conf.StorePath)
	conf.StorePath = filepath.Join(t.TempDir(), "new")
	memory = open(t, conf)
	rig.Has(t, memory, "theirs", `"milk"`)
	device := mallory.deviceOf(t, memory)
	require.NoError(t, mallory.machine.SendEncryptedToDevice(t.Context(), device, event.ToDeviceRoomKey, share))
	marker := mallory.shareOwn(t, device, room)
	require.True(t, memory.Client().Crypto.WaitForSession(t.Context(), room, "", marker, bound))
	require.NoError(t, memory.Close())
	memory = open(t, conf)
	rig.Has(t, memory, "theirs", `"milk"`)
}

// Another client of the account, plain mautrix, reads the key backup with the
// recovery key.
func TestAnotherClientRestoresTheBackup(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	conf := bot.config(t, room)
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	bot.backedUp(t, 1)
	require.NoError(t, memory.Close())

	client := newPeer(t, bot)
	client.restore(t, recoveryKey(t, conf.StorePath))
	evt := client.decrypt(t, room, bot.pointers(t, room)["tea"])
	require.JSONEq(t, `{"tea":"green"}`, string(evt.Content.VeryRaw))
}

// A backup that takes longer to fetch than an attempt of another request may take is
// restored all the same.
func TestLargeBackupIsRestored(t *testing.T) {
	t.Parallel()
	bot := register(t)
	room := bot.newRoom(t)
	conf := bot.config(t, room)
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, memory.Close())
	sessions := make([]forgery, 1200)
	for i := range sessions {
		sessions[i] = forge(t, room, `{}`)
	}
	bot.plant(t, room, &id.Device{IdentityKey: "another", SigningKey: "another"}, sessions...)

	conf.RecoveryKey = recoveryKey(t, conf.StorePath)
	conf.StorePath = filepath.Join(t.TempDir(), "new")
	conf.Timeout = 6 * time.Second
	conf, proxy := proxied(t, conf)
	proxy.Inject(homeserver.Fault{Match: to("GET", "/room_keys/keys"), Do: homeserver.Delay(conf.Timeout/3 + time.Second)})
	memory = open(t, conf)
	rig.Has(t, memory, "tea", `"green"`)
	require.Equal(t, 1, proxy.Count(func(r homeserver.Request) bool {
		return r.Method == "GET" && strings.Contains(r.Path, "/room_keys/keys")
	}), "the backup is fetched more than once")
}
