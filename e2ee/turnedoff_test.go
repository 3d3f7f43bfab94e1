//go:build goolm

package e2ee_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto/ssss"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/rig"
)

const defaultKey = "m.secret_storage.default_key"

// Another client turns off the key storage, with the backup. The bot makes neither anew when it
// starts, and its device stays signed.
func TestKeyStorageThatIsTurnedOff(t *testing.T) {
	for name, off := range map[string]any{"empty": map[string]any{}, "no key": map[string]any{"key": ""}} {
		t.Run(name, func(t *testing.T) {
			bot, other := register(t), newPeer(t, register(t))
			conf := bot.config(t, bot.newRoom(t, other.account))
			memory := open(t, conf)
			require.NoError(t, memory.Set("tea", []byte(`"green"`)))
			require.NoError(t, memory.Close())
			storages := bot.storages(t)
			bot.deleteBackup(t)
			bot.setAccountData(t, defaultKey, off)

			log, kept := rig.KeepLog()
			memory = rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable())
			rig.Has(t, memory, "tea", `"green"`)
			_, err := bot.GetKeyBackupLatestVersion(t.Context())
			require.ErrorIs(t, err, mautrix.MNotFound)
			var standing ssss.DefaultSecretStorageKeyContent
			require.NoError(t, bot.GetAccountData(t.Context(), defaultKey, &standing))
			require.Empty(t, standing.KeyID)
			require.Equal(t, storages, bot.storages(t))
			require.Equal(t, 1, strings.Count(kept.String(), "was deleted by another client"), kept.String())
			require.NotContains(t, kept.String(), "new recovery key")
			require.Equal(t, id.TrustStateCrossSignedTOFU, other.trusts(t, bot, memory.Client().DeviceID))
		})
	}
}

// Another client gives the account a new identity and deletes the backup. A bot that has used one
// takes the new identity, and makes no backup.
func TestBackupThatIsDeletedWithTheIdentity(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	conf := bot.config(t, bot.newRoom(t, other.account))
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, memory.Close())
	conf.RecoveryKey = bot.newIdentity(t, nil, "")
	bot.deleteBackup(t)
	log, kept := rig.KeepLog()
	memory = rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable())
	rig.Has(t, memory, "tea", `"green"`)
	require.Equal(t, id.TrustStateCrossSignedTOFU, other.trusts(t, bot, memory.Client().DeviceID))
	_, err := bot.GetKeyBackupLatestVersion(t.Context())
	require.ErrorIs(t, err, mautrix.MNotFound)
	require.Equal(t, 1, strings.Count(kept.String(), "was deleted by another client"), kept.String())
}

// Another client empties the default key. A bot whose store has all starts, whatever stands in
// recovery_key; a new store can't set up a storage with it.
func TestWrongRecoveryKeyWhereTheStorageIsGone(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	conf := bot.config(t, bot.newRoom(t, other.account))
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, memory.Close())
	bot.setAccountData(t, defaultKey, map[string]any{})
	conf.RecoveryKey = "a passphrase"
	log, kept := rig.KeepLog()
	memory = rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable())
	rig.Has(t, memory, "tea", `"green"`)
	require.NoError(t, memory.Set("coffee", []byte(`"black"`)))
	bot.backedUp(t, 1)
	require.Contains(t, kept.String(), "works with what is in its key store")
	require.NotContains(t, kept.String(), "key store alone") // the backup is used
	require.Equal(t, id.TrustStateCrossSignedTOFU, other.trusts(t, bot, memory.Client().DeviceID))
	require.NoError(t, memory.Close())

	fresh := register(t)
	conf = fresh.config(t, fresh.newRoom(t))
	conf.RecoveryKey = "a passphrase"
	require.ErrorContains(t, refuse(t, conf), "leave it out to have one made")
}

// A bot without a recovery key, whose set-up another client has overtaken, writes values. From
// then on its store is in use, and a wrong recovery key no reason not to start.
func TestWrongRecoveryKeyAfterASetUpThatWasOvertaken(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	conf.Password, conf.AccessToken = "", bot.AccessToken
	require.ErrorContains(t, refuse(t, conf), "set password beside access_token")
	bot.newIdentity(t, nil, "")
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, memory.Close())
	made, err := ssss.NewKey("")
	require.NoError(t, err)
	conf.RecoveryKey = made.RecoveryKey()
	log, kept := rig.KeepLog()
	memory = rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable())
	rig.Has(t, memory, "tea", `"green"`)
	require.Contains(t, kept.String(), "set recovery_key to the present one")
}

// The account has a backup that the first start can't use: the recovery key that it makes does not
// open that, and nothing is said as if it did.
func TestNewRecoveryKeyWithoutABackup(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	bot.makeBackup(t)
	log, kept := rig.KeepLog()
	rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable())
	require.Contains(t, kept.String(), "new recovery key")
	require.Contains(t, kept.String(), "key backup can't be opened")
	require.NotContains(t, kept.String(), "all that is needed")
	require.NotContains(t, kept.String(), "with recovery_key")
}

// The recovery key may be a secret of the machine, whose permissions are not the bot's to change.
// The file of the keys may not.
func TestRecoveryKeyBehindALink(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, memory.Close())
	elsewhere := t.TempDir()
	link := func(name string) {
		t.Helper()
		path, target := filepath.Join(conf.StorePath, name), filepath.Join(elsewhere, name)
		require.NoError(t, os.Rename(path, target))
		require.NoError(t, os.Symlink(target, path))
		require.NoError(t, os.Chmod(target, 0o644))
	}
	link("recovery_key")
	t.Cleanup(e2ee.ForbidChmod(elsewhere))
	log, kept := rig.KeepLog()
	memory = rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable())
	rig.Has(t, memory, "tea", `"green"`)
	require.Contains(t, kept.String(), "Other users may look into a file")
	require.NoError(t, memory.Close())

	link("keys.db")
	require.ErrorContains(t, refuse(t, conf), "make the file the bot's own")
}

// The write-ahead log of a process that was killed is beside the file that a link leads to. What is
// in it counts when the store is looked at: here, which device's it is.
func TestWriteAheadLogBehindALink(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	memory := open(t, conf)
	device := memory.Client().DeviceID
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	killed := contents(t, conf.StorePath)
	require.NoError(t, memory.Close())
	folder, elsewhere := restored(t, killed), t.TempDir()
	for _, name := range []string{"keys.db", "keys.db-wal", "keys.db-shm"} {
		require.NoError(t, os.Rename(filepath.Join(folder, name), filepath.Join(elsewhere, name)))
	}
	require.NoError(t, os.Symlink(filepath.Join(elsewhere, "keys.db"), filepath.Join(folder, "keys.db")))
	conf.StorePath = folder
	memory = open(t, conf)
	require.Equal(t, device, memory.Client().DeviceID)
	rig.Has(t, memory, "tea", `"green"`)
	require.NoError(t, memory.Close())
}

// A bot that has never used a backup is not told that one was replaced.
func TestWarningWhereThereWasNoBackup(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	bot.makeBackup(t)
	require.NoError(t, open(t, conf).Close()) // can't use it
	require.NoError(t, os.Remove(filepath.Join(conf.StorePath, "recovery_key")))
	log, kept := rig.KeepLog()
	rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable())
	require.NotContains(t, kept.String(), "Another client has replaced")
	require.Contains(t, kept.String(), "No key backup is used")
}
