//go:build goolm

package e2ee_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/crypto/ssss"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// recoveryKey returns the key that the first start wrote.
func recoveryKey(t testing.TB, storePath string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(storePath, "recovery_key"))
	require.NoError(t, err)
	return strings.TrimSpace(string(text))
}

func TestFirstStartSetsUpCrossSigningAndBackup(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	conf := bot.config(t, room)
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	device := memory.Client().DeviceID

	version, err := bot.GetKeyBackupLatestVersion(t.Context())
	require.NoError(t, err)
	eventually(t, func() bool {
		version, err = bot.GetKeyBackupLatestVersion(t.Context())
		return err == nil && version.Count == 1
	}, "the session is not in the backup: %+v", version)

	// Somebody else sees a device that its owner has signed.
	devices, err := other.machine.FetchKeys(t.Context(), []id.UserID{bot.UserID}, true)
	require.NoError(t, err)
	trust, err := other.machine.ResolveTrustContext(t.Context(), devices[bot.UserID][device])
	require.NoError(t, err)
	require.Equal(t, id.TrustStateCrossSignedTOFU, trust)
	require.NoError(t, memory.Close())

	// A restart changes nothing of it.
	before := recoveryKey(t, conf.StorePath)
	memory = open(t, conf)
	require.Equal(t, before, recoveryKey(t, conf.StorePath))
	again, err := bot.GetKeyBackupLatestVersion(t.Context())
	require.NoError(t, err)
	require.Equal(t, version.Version, again.Version)
	rig.Has(t, memory, "tea", `"green"`)
}

// Five hundred values that went out under several sessions are read with a new,
// empty store and the recovery key.
func TestLostStoreIsRestoredFromTheBackup(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			bot := register(t)
			room := bot.newRoom(t)
			conf := bot.config(t, room)
			conf.SingleStateKey = layout
			conf.Timeout = 2 * time.Minute // each write waits for all that came before
			const sessions, values = 5, 100
			for n := range sessions { // each start has sessions of its own
				memory := open(t, conf)
				var all sync.WaitGroup
				errs := make([]error, values)
				for i := range values {
					all.Go(func() { errs[i] = memory.Set(fmt.Sprintf("%d/%d", n, i), fmt.Appendf(nil, `"secret %d/%d"`, n, i)) })
				}
				all.Wait()
				for _, err := range errs {
					require.NoError(t, err)
				}
				require.NoError(t, memory.Close())
			}

			conf.RecoveryKey = recoveryKey(t, conf.StorePath)
			conf.StorePath = filepath.Join(t.TempDir(), "new")
			memory := open(t, conf)
			keys, err := memory.Keys()
			require.NoError(t, err)
			require.Len(t, keys, sessions*values)
			for n := range sessions {
				for i := range values {
					rig.Has(t, memory, fmt.Sprintf("%d/%d", n, i), fmt.Sprintf(`"secret %d/%d"`, n, i))
				}
			}
			require.NoError(t, memory.Set("new", []byte(`1`)))
			rig.Has(t, memory, "new", `1`)
			require.NoFileExists(t, filepath.Join(conf.StorePath, "recovery_key"))
		})
	}
}

func TestRecoveryKeyThatDoesNotFit(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	require.NoError(t, open(t, conf).Close())
	conf.StorePath = filepath.Join(t.TempDir(), "new")

	conf.RecoveryKey = "no key"
	require.ErrorIs(t, refuse(t, conf), ssss.ErrInvalidRecoveryKey)
	other, err := ssss.NewKey("")
	require.NoError(t, err)
	conf.RecoveryKey = other.RecoveryKey()
	err = refuse(t, conf)
	require.ErrorIs(t, err, ssss.ErrIncorrectSSSSKey)
	require.NotContains(t, err.Error(), conf.RecoveryKey)
}

// A bot that logs in by token can have its store restored as well, on its device.
func TestLostStoreOfATokensDevice(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	conf := bot.config(t, room)
	conf.AccessToken = bot.AccessToken // and the password, for the cross-signing keys
	memory := open(t, conf)
	require.Equal(t, bot.DeviceID, memory.Client().DeviceID)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, memory.Close())
	conf.UserID, conf.Password = "", ""
	key := recoveryKey(t, conf.StorePath)

	conf.StorePath = filepath.Join(t.TempDir(), "new")
	require.ErrorContains(t, refuse(t, conf), "recovery_key")
	conf.RecoveryKey = key
	memory = open(t, conf)
	rig.Has(t, memory, "tea", `"green"`)
}

// On an account that has cross-signing already, the bot works without the recovery
// key, and says what that means; with it, its device is signed.
func TestAccountThatHasCrossSigning(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	conf := bot.config(t, bot.newRoom(t, other.account))
	require.NoError(t, open(t, conf).Close())
	key := recoveryKey(t, conf.StorePath)
	trust := func(device id.DeviceID) id.TrustState {
		devices, err := other.machine.FetchKeys(t.Context(), []id.UserID{bot.UserID}, true)
		require.NoError(t, err)
		trust, err := other.machine.ResolveTrustContext(t.Context(), devices[bot.UserID][device])
		require.NoError(t, err)
		return trust
	}

	conf.StorePath = filepath.Join(t.TempDir(), "second")
	logger, entries := logtest.NewNullLogger()
	memory := matrix.New(conf, matrix.WithLogger(logger), e2ee.Enable())
	require.NoError(t, memory.Open(t.Context()))
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	rig.Has(t, memory, "tea", `"green"`)
	require.NotEqual(t, id.TrustStateCrossSignedTOFU, trust(memory.Client().DeviceID))
	require.NoError(t, memory.Close())
	require.True(t, slices.ContainsFunc(entries.AllEntries(), func(entry *logrus.Entry) bool {
		return entry.Level == logrus.WarnLevel && strings.Contains(entry.Message, "recovery_key")
	}), "nothing warns that recovery_key is missing")
	require.NoFileExists(t, filepath.Join(conf.StorePath, "recovery_key"))

	conf.StorePath, conf.RecoveryKey = filepath.Join(t.TempDir(), "third"), key
	memory = open(t, conf)
	require.Equal(t, id.TrustStateCrossSignedTOFU, trust(memory.Client().DeviceID))
}

// A homeserver wants the password before it takes cross-signing keys. A bot that
// has none is told what to do.
func TestHomeserverAsksForThePassword(t *testing.T) {
	bot := register(t)
	conf, proxy := proxied(t, bot.config(t, bot.newRoom(t)))
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.Equal(t, 2, proxy.Count(func(r homeserver.Request) bool { return strings.HasSuffix(r.Path, "/keys/device_signing/upload") }))

	bot = register(t)
	conf = bot.config(t, bot.newRoom(t))
	conf.Password, conf.AccessToken = "", bot.AccessToken
	require.ErrorContains(t, refuse(t, conf), "set password beside access_token")
}
