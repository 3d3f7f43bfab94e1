//go:build goolm

package e2ee_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto/ssss"
	"maunium.net/go/mautrix/crypto/utils"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestSpellingsOfTheRecoveryKey(t *testing.T) {
	made, err := ssss.NewKey("")
	require.NoError(t, err)
	right := made.RecoveryKey()
	bare := strings.ReplaceAll(right, " ", "")
	for name, spelling := range map[string]string{
		"as it is shown":     right,
		"with a newline":     right + "\n",
		"from Windows":       "\ufeff" + right + "\r\n",
		"over two lines":     right[:29] + "\n\t" + right[30:],
		"without spaces":     bare,
		"with dashes":        strings.ReplaceAll(right, " ", "-"),
		"with en dashes":     strings.ReplaceAll(right, " ", "–"),
		"with fixed spaces":  strings.ReplaceAll(right, " ", "\u00a0"),
		"with quotes":        `"` + right + `"`,
		"with typeset marks": "“" + right + "”",
	} {
		t.Run(name, func(t *testing.T) {
			key, err := e2ee.DecodeRecoveryKey(spelling)
			require.NoError(t, err)
			require.Equal(t, made.Key, key)
		})
	}
	var mistyped string
	for _, other := range "zyxwv" { // one in 256 has the same parity
		mistyped = bare[:20] + string(other) + bare[21:]
		if mistyped != bare && utils.DecodeBase58RecoveryKey(mistyped) == nil {
			break
		}
	}
	for spelling, complaint := range map[string]string{
		strings.ToLower(right):                "of one case",
		strings.ToUpper(right):                "of one case",
		mistyped:                              "wrong, missing or one too many",
		bare[:47]:                             "and there are 47",
		"":                                    "begin with Es",
		"a passphrase":                        "begin with Es",
		strings.Repeat("ß", 24):               "begin with Es",
		strings.Replace(right, "Es", "sE", 1): "begin with Es",
		strings.Repeat(bare, 2):               "begin with Es",
		bare[:5] + "0" + bare[6:]:             "wrong, missing or one too many",
		"Es" + strings.Repeat("\u0660", 23):   "wrong, missing or one too many",
	} {
		key, err := e2ee.DecodeRecoveryKey(spelling)
		require.Nil(t, key)
		require.ErrorIs(t, err, ssss.ErrInvalidRecoveryKey)
		require.ErrorContains(t, err, complaint)
		if spelling != "" {
			require.NotContains(t, err.Error(), spelling)
		}
	}
}

func FuzzRecoveryKey(f *testing.F) {
	made, err := ssss.NewKey("")
	require.NoError(f, err)
	f.Add(made.RecoveryKey())
	f.Add(strings.ToLower(made.RecoveryKey()))
	f.Add("a passphrase")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := e2ee.DecodeRecoveryKey(text)
		if err != nil {
			require.Nil(t, key)
			return
		}
		again, err := e2ee.DecodeRecoveryKey(utils.EncodeBase58RecoveryKey(key))
		require.NoError(t, err)
		require.Equal(t, key, again)
	})
}

// newIdentity has another client give the account cross-signing keys, a secret storage and, in
// the place of any that there is, a key backup. It returns the recovery key.
func (a account) newIdentity(t testing.TB, how *ssss.PassphraseMetadata, passphrase string) string {
	t.Helper()
	client := newPeer(t, a.anotherDevice(t))
	storage, err := ssss.NewKey("")
	require.NoError(t, err)
	if how != nil {
		// It is the description that may be too costly, and not this test.
		raw := utils.PBKDF2SHA512([]byte(passphrase), []byte(how.Salt), min(how.Iterations, 1000), 256)
		storage, err = ssss.WrapKey(raw, how)
		require.NoError(t, err)
	}
	machine := client.machine
	require.NoError(t, machine.SSSS.SetKeyData(t.Context(), storage.ID, storage.Metadata))
	keys, err := machine.GenerateCrossSigningKeys()
	require.NoError(t, err)
	require.NoError(t, machine.UploadCrossSigningKeysToSSSS(t.Context(), storage, keys))
	require.NoError(t, machine.PublishCrossSigningKeys(t.Context(), keys, func(asked *mautrix.RespUserInteractive) any {
		return &mautrix.ReqUIAuthLogin{
			BaseAuthData: mautrix.BaseAuthData{Type: mautrix.AuthTypePassword, Session: asked.Session},
			User:         a.UserID.String(),
			Password:     a.Password,
		}
	}))
	require.NoError(t, machine.SSSS.SetDefaultKeyID(t.Context(), storage.ID))
	if version, err := a.GetKeyBackupLatestVersion(t.Context()); err == nil {
		require.NoError(t, a.DeleteKeyBackupVersion(t.Context(), version.Version))
	}
	key := a.makeBackup(t)
	require.NoError(t, machine.SSSS.SetEncryptedAccountData(t.Context(), event.AccountDataMegolmBackupKey, key.Bytes(), storage))
	return storage.RecoveryKey()
}

// The passphrase of the account's secret storage stands in for the recovery key. The homeserver
// can't make the bot compute for ever with it.
func TestPassphraseInPlaceOfTheRecoveryKey(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	conf := bot.config(t, bot.newRoom(t, other.account))
	const passphrase = "correct horse battery staple"
	how := &ssss.PassphraseMetadata{Algorithm: ssss.PassphraseAlgorithmPBKDF2, Iterations: 1000, Salt: "salt", Bits: 256}
	bot.newIdentity(t, how, passphrase)
	conf.RecoveryKey = passphrase + "\n"
	memory := open(t, conf)
	require.Equal(t, id.TrustStateCrossSignedTOFU, other.trusts(t, bot, memory.Client().DeviceID))
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	bot.backedUp(t, 1)
	require.NoError(t, memory.Close())
	conf.StorePath = filepath.Join(t.TempDir(), "new")
	memory = open(t, conf)
	rig.Has(t, memory, "tea", `"green"`)
	require.NoError(t, memory.Close())

	conf.StorePath, conf.RecoveryKey = filepath.Join(t.TempDir(), "wrong"), "correct horse battery"
	err := refuse(t, conf)
	require.ErrorIs(t, err, ssss.ErrIncorrectSSSSKey)
	require.ErrorContains(t, err, "nor its passphrase")
	require.NotContains(t, err.Error(), conf.RecoveryKey)
}

// A passphrase makes some key in any case. Where the description has nothing to check it by, the
// recovery key is asked for.
func TestPassphraseThatCantBeChecked(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	const passphrase = "correct horse battery staple"
	how := ssss.PassphraseMetadata{Algorithm: ssss.PassphraseAlgorithmPBKDF2, Iterations: 1000, Salt: "salt", Bits: 256}
	recovery := bot.newIdentity(t, &how, passphrase)
	keyID, data, err := newPeer(t, bot).machine.SSSS.GetDefaultKeyData(t.Context())
	require.NoError(t, err)
	data.IV, data.MAC = "", ""
	bot.setAccountData(t, "m.secret_storage.key."+keyID, data)
	conf.RecoveryKey = passphrase
	err = refuse(t, conf)
	require.ErrorContains(t, err, "has no iv and mac")
	require.NotContains(t, err.Error(), "another account's")
	conf.RecoveryKey = recovery
	open(t, conf)
}

func TestPassphraseThatCostsTooMuch(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	how := ssss.PassphraseMetadata{Algorithm: ssss.PassphraseAlgorithmPBKDF2, Iterations: 1 << 30, Salt: "salt"}
	bot.newIdentity(t, &how, "a passphrase")
	conf.RecoveryKey = "a passphrase"
	rig.Within(t, conf.Timeout/2, "the start", func() { require.ErrorContains(t, refuse(t, conf), "at most 5000000") })
}

// Another client gives the account a new identity, with a new recovery key. A bot whose store has
// what it needs starts with the old one, and says what does not work; a new store needs the new one.
func TestWrongRecoveryKeyAfterAnIdentityReset(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	conf := bot.config(t, bot.newRoom(t, other.account))
	log, kept := rig.KeepLog()
	start := func() *matrix.Memory { return rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable()) }
	memory := start()
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, memory.Close())
	conf.RecoveryKey = recoveryKey(t, conf.StorePath)
	old := conf.StorePath
	recovery := bot.newIdentity(t, nil, "")

	memory = start()
	rig.Has(t, memory, "tea", `"green"`)
	require.NoError(t, memory.Set("coffee", []byte(`"black"`)))
	require.NoError(t, memory.Close())
	require.Contains(t, kept.String(), "cross-signing keys were replaced by another client")
	require.Contains(t, kept.String(), "recovery_key does not open the account's secret storage")
	require.Contains(t, kept.String(), "set recovery_key to the present one")

	conf.StorePath = filepath.Join(t.TempDir(), "new")
	require.ErrorContains(t, refuse(t, conf), "set recovery_key to the present one")

	conf.StorePath, conf.RecoveryKey = old, recovery
	memory = start()
	require.Equal(t, id.TrustStateCrossSignedTOFU, other.trusts(t, bot, memory.Client().DeviceID))
	bot.backedUp(t, 2)
	require.NoError(t, memory.Close())
	conf.StorePath = filepath.Join(t.TempDir(), "newer")
	memory = start()
	rig.Has(t, memory, "tea", `"green"`)
	rig.Has(t, memory, "coffee", `"black"`)
}

// The store has all that a start needs; a recovery key that would not open anything is warned of,
// since it is missed only when the store is lost.
func TestWrongRecoveryKeyThatIsNotNeeded(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, memory.Close())
	conf.RecoveryKey = strings.ToLower(recoveryKey(t, conf.StorePath))
	log, kept := rig.KeepLog()
	memory = rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable())
	rig.Has(t, memory, "tea", `"green"`)
	require.Contains(t, kept.String(), "all its letters are of one case")
	require.NotContains(t, kept.String(), conf.RecoveryKey)
}

// What other clients put into the account's data may be anything. A new store that needs it says
// so at once, and one that does not starts.
func TestSecretStorageThatIsMalformed(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, bot account, keyID string){
		"the master key": func(t *testing.T, bot account, _ string) {
			bot.setAccountData(t, event.AccountDataCrossSigningMaster.Type, map[string]any{"encrypted": []int{1}})
		},
		"the self-signing key's text": func(t *testing.T, bot account, keyID string) {
			bot.setAccountData(t, event.AccountDataCrossSigningSelf.Type, map[string]any{"encrypted": map[string]any{keyID: map[string]string{"iv": "AAAA", "ciphertext": "AAAA", "mac": "AAAA"}}})
		},
		"the description": func(t *testing.T, bot account, keyID string) {
			bot.setAccountData(t, "m.secret_storage.key."+keyID, map[string]any{"passphrase": "none"})
		},
		"a description that is not there": func(t *testing.T, bot account, _ string) {
			bot.setAccountData(t, event.AccountDataSecretStorageDefaultKey.Type, map[string]any{"key": "another"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			bot := register(t)
			conf := bot.config(t, bot.newRoom(t))
			memory := open(t, conf)
			require.NoError(t, memory.Set("tea", []byte(`"green"`)))
			require.NoError(t, memory.Close())
			conf.RecoveryKey = recoveryKey(t, conf.StorePath)
			keyID, _, err := newPeer(t, bot).machine.SSSS.GetDefaultKeyData(t.Context())
			require.NoError(t, err)
			spoil(t, bot, keyID)
			rig.Within(t, conf.Timeout/2, "the start", func() { memory = open(t, conf) })
			rig.Has(t, memory, "tea", `"green"`)
			require.NoError(t, memory.Close())
			conf.StorePath = filepath.Join(t.TempDir(), "new")
			rig.Within(t, conf.Timeout/2, "the start", func() { require.ErrorContains(t, refuse(t, conf), "with another client") })
		})
	}
}

func (a account) setAccountData(t testing.TB, name string, content any) {
	t.Helper()
	require.NoError(t, a.SetAccountData(t.Context(), name, content))
}
