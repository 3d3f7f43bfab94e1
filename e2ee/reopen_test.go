//go:build goolm

package e2ee_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto/backup"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// deleteBackup deletes the account's key backup.
func (a account) deleteBackup(t testing.TB) {
	t.Helper()
	version, err := a.GetKeyBackupLatestVersion(t.Context())
	require.NoError(t, err)
	require.NoError(t, a.DeleteKeyBackupVersion(t.Context(), version.Version))
}

// replaceBackup has another client, which knows the recovery key, make a new key backup in the
// place of the one that there is.
func (a account) replaceBackup(t testing.TB, recovery string) {
	t.Helper()
	newPeer(t, a).storeBackupKey(t, recovery, a.newBackup(t))
}

// storeBackupKey puts the key to the account's key backup into the secret storage.
func (p *peer) storeBackupKey(t testing.TB, recovery string, key *backup.MegolmBackupKey) {
	t.Helper()
	require.NoError(t, p.machine.SSSS.SetEncryptedAccountData(t.Context(), event.AccountDataMegolmBackupKey, key.Bytes(), p.openStorage(t, recovery)))
}

// newBackup makes a new key backup in the place of the one that there is.
func (a account) newBackup(t testing.TB) *backup.MegolmBackupKey {
	t.Helper()
	a.deleteBackup(t)
	return a.makeBackup(t)
}

// makeBackup makes a new key backup.
func (a account) makeBackup(t testing.TB) *backup.MegolmBackupKey {
	t.Helper()
	key, err := backup.NewMegolmBackupKey()
	require.NoError(t, err)
	_, err = a.CreateKeyBackupVersion(t.Context(), &mautrix.ReqRoomKeysVersionCreate[backup.MegolmAuthData]{
		Algorithm: id.KeyBackupAlgorithmMegolmBackupV1,
		AuthData:  backup.MegolmAuthData{PublicKey: id.Ed25519(base64.RawStdEncoding.EncodeToString(key.PublicKey().Bytes()))},
	})
	require.NoError(t, err)
	return key
}

// Where another client replaces the account's key backup, the bot's keys go to the new one at
// once, those too that were in the old one: nothing is lost with the store.
func TestBackupThatIsReplaced(t *testing.T) {
	for name, running := range map[string]bool{"while the bot runs": true, "while it is down": false} {
		t.Run(name, func(t *testing.T) {
			bot := register(t)
			conf := bot.config(t, bot.newRoom(t))
			memory := open(t, conf)
			require.NoError(t, memory.Set("tea", []byte(`"green"`)))
			bot.backedUp(t, 1)
			recovery := recoveryKey(t, conf.StorePath)
			if running {
				bot.replaceBackup(t, recovery)
			} else {
				require.NoError(t, memory.Close())
				bot.replaceBackup(t, recovery)
				memory = open(t, conf)
			}
			bot.backedUp(t, 1)
			require.NoError(t, memory.Set("coffee", []byte(`"black"`)))
			require.NoError(t, memory.Close())
			memory = open(t, conf)
			rig.Has(t, memory, "coffee", `"black"`)
			require.NoError(t, memory.Close())

			conf.StorePath, conf.RecoveryKey = filepath.Join(t.TempDir(), "new"), recovery
			memory = open(t, conf)
			rig.Has(t, memory, "tea", `"green"`)
			rig.Has(t, memory, "coffee", `"black"`)
		})
	}
}

// The bot's keys go to the new backup also where what is in that can't be had.
func TestBackupThatIsReplacedAndCantBeRestored(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	conf, proxy := proxied(t, conf)
	log, kept := rig.KeepLog()
	memory := rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable())
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	bot.backedUp(t, 1)
	recovery := recoveryKey(t, conf.StorePath)
	proxy.Inject(homeserver.Fault{Match: to("GET", "/room_keys/keys"), Do: rig.Forbidden})
	bot.replaceBackup(t, recovery)
	eventually(t, func() bool { return strings.Contains(kept.String(), "Could not restore what is in") }, "the warning")
	bot.backedUp(t, 1)
	require.NoError(t, memory.Close())

	conf.Homeserver, conf.StorePath, conf.RecoveryKey = rig.Shared(t).URL(), filepath.Join(t.TempDir(), "new"), recovery
	rig.Has(t, open(t, conf), "tea", `"green"`)
}

// Without the recovery key a new backup can't be opened, which the log says, with what to do;
// with it the next start uses that backup.
func TestBackupThatIsReplacedWithoutTheRecoveryKey(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	log, kept := rig.KeepLog()
	start := func() *matrix.Memory {
		memory := matrix.New(conf, matrix.WithLogger(log), e2ee.Enable())
		require.NoError(t, memory.Open(t.Context()))
		t.Cleanup(func() { require.NoError(t, memory.Close()) })
		return memory
	}
	memory := start()
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	bot.backedUp(t, 1)
	recovery := recoveryKey(t, conf.StorePath)
	require.NoError(t, os.Remove(filepath.Join(conf.StorePath, "recovery_key"))) // to a safe place
	bot.replaceBackup(t, recovery)
	const warning = "was replaced by another client, and can't be opened"
	eventually(t, func() bool { return strings.Contains(kept.String(), warning) }, "the warning")
	require.Contains(t, kept.String(), "set recovery_key")
	require.NoError(t, memory.Set("tea", []byte(`"black"`)))
	require.NoError(t, memory.Close())

	memory = start()
	require.Contains(t, kept.String(), "No key backup is used, as there is none or another client has replaced it")
	require.NotContains(t, kept.String(), "is not signed")
	rig.Has(t, memory, "tea", `"black"`)
	require.NoError(t, memory.Close())
	conf.RecoveryKey = recovery
	memory = start()
	bot.backedUp(t, 2)
	rig.Has(t, memory, "tea", `"black"`)
	require.Equal(t, 1, strings.Count(kept.String(), warning))
}

// A backup that another client has deleted is not made anew, neither while the bot runs nor when it
// starts: that client may want none. The log says so, once each time. What another client makes
// later is used.
func TestBackupThatIsDeleted(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	conf := bot.config(t, room)
	log, kept := rig.KeepLog()
	start := func() *matrix.Memory { return rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable()) }
	memory := start()
	recovery := recoveryKey(t, conf.StorePath)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	bot.backedUp(t, 1)
	bot.deleteBackup(t)
	other.shareOwn(t, other.deviceOf(t, memory), room) // a new key for the backup
	warned := func(times int) bool { return strings.Count(kept.String(), "was deleted by another client") == times }
	eventually(t, func() bool { return warned(1) }, "the warning")
	require.NoError(t, memory.Set("tea", []byte(`"black"`)))
	require.NoError(t, memory.Close())
	memory = start()
	require.NoError(t, memory.Set("coffee", []byte(`"black"`)))
	_, err := bot.GetKeyBackupLatestVersion(t.Context())
	require.ErrorIs(t, err, mautrix.MNotFound)
	require.True(t, warned(2), kept.String())

	newPeer(t, bot).storeBackupKey(t, recovery, bot.makeBackup(t))
	bot.backedUp(t, 3) // with the one of the other member
	require.NoError(t, memory.Close())
	require.True(t, warned(2), kept.String())
	conf.StorePath, conf.RecoveryKey = filepath.Join(t.TempDir(), "new"), recovery
	memory = start()
	rig.Has(t, memory, "tea", `"black"`)
	rig.Has(t, memory, "coffee", `"black"`)
}

// A backup of a kind that the bot does not know, or that is malformed, does not keep it from
// starting: it is not used, and the log says so.
func TestBackupOfAnotherKind(t *testing.T) {
	for name, version := range map[string]string{
		"algorithm": `{"algorithm":"org.example.backup","auth_data":{"public_key":"a key"}}`,
		"malformed": `{"algorithm":"m.megolm_backup.v1.curve25519-aes-sha2","auth_data":{"public_key":5,"signatures":[]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			bot := register(t)
			conf := bot.config(t, bot.newRoom(t))
			memory := open(t, conf)
			require.NoError(t, memory.Set("tea", []byte(`"green"`)))
			require.NoError(t, memory.Close())
			bot.deleteBackup(t)
			_, err := bot.MakeRequest(t.Context(), http.MethodPost, bot.BuildClientURL("v3", "room_keys", "version"), json.RawMessage(version), nil)
			require.NoError(t, err)
			log, kept := rig.KeepLog()
			rig.Within(t, conf.Timeout/2, "the start", func() { memory = rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable()) })
			rig.Has(t, memory, "tea", `"green"`)
			require.Contains(t, kept.String(), "key backup can't be opened")
		})
	}
}

// What another client has put where the backup's key should stand, which may be anything, does
// not keep the bot from starting.
func TestBackupWhoseKeyIsNotThere(t *testing.T) {
	for name, content := range map[string]string{
		"nothing":             `{}`,
		"no object":           `{"encrypted":[]}`,
		"for another storage": `{"encrypted":{"another":{"iv":"AAAA","ciphertext":"AAAA","mac":"AAAA"}}}`,
		"not its ciphertext":  `{"encrypted":{%q:{"iv":"AAAAAAAAAAAAAAAAAAAAAA","ciphertext":"AAAA","mac":"AAAA"}}}`,
		"of another backup":   "",
	} {
		t.Run(name, func(t *testing.T) {
			bot := register(t)
			conf := bot.config(t, bot.newRoom(t))
			log, kept := rig.KeepLog()
			start := func() *matrix.Memory { return rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable()) }
			memory := start()
			require.NoError(t, memory.Set("tea", []byte(`"green"`)))
			bot.backedUp(t, 1)
			bot.newBackup(t)
			keyID, _, err := newPeer(t, bot).machine.SSSS.GetDefaultKeyData(t.Context())
			require.NoError(t, err)
			var put any = json.RawMessage(strings.ReplaceAll(content, "%q", strconv.Quote(keyID)))
			if content == "" { // as it stands, and once more so that sync brings it
				var standing map[string]any
				require.NoError(t, bot.GetAccountData(t.Context(), event.AccountDataMegolmBackupKey.Type, &standing))
				standing["again"] = true
				put = standing
			}
			require.NoError(t, bot.SetAccountData(t.Context(), event.AccountDataMegolmBackupKey.Type, put))
			const warning = "was replaced by another client, and can't be opened"
			eventually(t, func() bool { return strings.Contains(kept.String(), warning) }, "the warning")
			require.NoError(t, memory.Set("coffee", []byte(`"black"`)))
			require.NoError(t, memory.Close())

			memory = start()
			rig.Has(t, memory, "tea", `"green"`)
			rig.Has(t, memory, "coffee", `"black"`)
			require.Contains(t, kept.String(), "key backup can't be opened")
			require.Equal(t, 1, strings.Count(kept.String(), warning))
		})
	}
}

// What is read while the new backup is restored, with the very keys that stand in it, does not
// wait for that.
func TestReadWhileABackupIsRestored(t *testing.T) {
	const values = 40
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	conf := bot.config(t, room)
	memory := open(t, conf)
	key := func(i int) string { return "key" + strconv.Itoa(i) }
	for i := range values {
		require.NoError(t, memory.Set(key(i), []byte(`1`)))
	}
	bot.backedUp(t, 1)
	owner := other.deviceOf(t, memory)
	recovery := recoveryKey(t, conf.StorePath)
	require.NoError(t, memory.Close()) // which forgets the values
	held := bot.restored(t, recovery, room)
	require.NotEmpty(t, held)

	conf.Timeout = 6 * time.Second
	conf, proxy := proxied(t, conf)
	log, kept := rig.KeepLog()
	memory = rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable())
	reached, release := make(chan struct{}), make(chan struct{})
	download := to("GET", "/room_keys/keys")
	proxy.Inject(homeserver.Fault{Match: download, Times: 1, Do: homeserver.PauseBefore(reached, release)})
	bot.replaceBackup(t, recovery)
	rig.Within(t, bound, "the new backup is read", func() { <-reached })
	for range 400 {
		held = append(held, forge(t, room, `{}`))
	}
	bot.plant(t, room, owner, held...)
	close(release)
	eventually(t, func() bool {
		return proxy.Count(func(r homeserver.Request) bool { return homeserver.Seen(download)(r) && r.Status == http.StatusOK }) == 1
	}, "the sessions come")
	for i := range values {
		rig.Has(t, memory, key(i), `1`)
	}
	eventually(t, func() bool { return strings.Contains(kept.String(), "the bot's keys go to the new one") }, "the restore")
	require.NotContains(t, kept.String(), "locked")
}

// restored returns the sessions of a room that are in the account's key backup, as another
// client reads them.
func (a account) restored(t testing.TB, recovery string, room id.RoomID) (held []forgery) {
	t.Helper()
	client := newPeer(t, a.anotherDevice(t))
	client.restore(t, recovery)
	sessions, err := client.machine.CryptoStore.GetGroupSessionsForRoom(t.Context(), room).AsList()
	require.NoError(t, err)
	for _, session := range sessions {
		exported, err := session.Internal.Export(session.Internal.FirstKnownIndex())
		require.NoError(t, err)
		held = append(held, forgery{sessionID: session.ID(), key: string(exported)})
	}
	return held
}
