//go:build goolm

package e2ee_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto/backup"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
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
	client := newPeer(t, a)
	a.deleteBackup(t)
	key, err := backup.NewMegolmBackupKey()
	require.NoError(t, err)
	_, err = a.CreateKeyBackupVersion(t.Context(), &mautrix.ReqRoomKeysVersionCreate[backup.MegolmAuthData]{
		Algorithm: id.KeyBackupAlgorithmMegolmBackupV1,
		AuthData:  backup.MegolmAuthData{PublicKey: id.Ed25519(base64.RawStdEncoding.EncodeToString(key.PublicKey().Bytes()))},
	})
	require.NoError(t, err)
	keyID, data, err := client.machine.SSSS.GetDefaultKeyData(t.Context())
	require.NoError(t, err)
	storage, err := data.VerifyRecoveryKey(keyID, recovery)
	require.NoError(t, err)
	require.NoError(t, client.machine.SSSS.SetEncryptedAccountData(t.Context(), event.AccountDataMegolmBackupKey, key.Bytes(), storage))
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
	require.Contains(t, kept.String(), "has deleted or replaced the account's key backup")
	require.NotContains(t, kept.String(), "is not signed")
	rig.Has(t, memory, "tea", `"black"`)
	require.NoError(t, memory.Close())
	conf.RecoveryKey = recovery
	memory = start()
	bot.backedUp(t, 2)
	rig.Has(t, memory, "tea", `"black"`)
	require.Equal(t, 1, strings.Count(kept.String(), warning))
}

// A backup that another client has deleted is not made anew while the bot runs: that client
// may want none. The log says so, once.
func TestBackupThatIsDeleted(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	conf := bot.config(t, room)
	log, kept := rig.KeepLog()
	memory := matrix.New(conf, matrix.WithLogger(log), e2ee.Enable())
	require.NoError(t, memory.Open(t.Context()))
	defer func() { require.NoError(t, memory.Close()) }()
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	bot.backedUp(t, 1)
	bot.deleteBackup(t)
	other.shareOwn(t, other.deviceOf(t, memory), room) // a new key for the backup
	eventually(t, func() bool { return strings.Contains(kept.String(), "was deleted by another client") }, "the warning")
	require.NoError(t, memory.Set("tea", []byte(`"black"`)))
	_, err := bot.GetKeyBackupLatestVersion(t.Context())
	require.ErrorIs(t, err, mautrix.MNotFound)
}
