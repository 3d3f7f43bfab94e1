//go:build goolm

package e2ee

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/backup"
	"maunium.net/go/mautrix/crypto/signatures"
	"maunium.net/go/mautrix/crypto/ssss"
	"maunium.net/go/mautrix/crypto/utils"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// recovery sees to it that the bot's device is cross-signed and that there is a
// key backup, as far as the recovery key opens them or nobody has set them up
// yet. It may be interrupted at any place; the next start goes on from there.
func (c *crypt) recovery(ctx context.Context) error {
	published, err := c.sessions.GetCrossSigningKeys(ctx, c.client.UserID)
	if err != nil {
		return err
	}
	master := published[id.XSUsageMaster].Key
	seeds, err := c.loadSeeds(ctx)
	if err != nil {
		return err
	}
	if seeds != nil && master != "" && seeds.PublicKeys().MasterKey != master {
		c.log.Warn("The account's cross-signing keys were replaced; the bot needs the new recovery_key to sign its device")
		seeds = nil
	}
	if seeds != nil && master != "" {
		if done, err := c.resume(ctx, seeds); done || err != nil {
			return err
		}
	}

	storage, fresh, err := c.secretStorage(ctx, seeds != nil || master == "")
	if err != nil || storage == nil {
		return err
	}
	if seeds, err = c.crossSign(ctx, storage, fresh, seeds, master); err != nil || seeds == nil {
		return err
	}
	if err := c.openBackup(ctx, storage, fresh); err != nil {
		return err
	}
	if fresh { // last, so that an interrupted set-up begins again
		return c.try(ctx, func(ctx context.Context) error { return c.machine.SSSS.SetDefaultKeyID(ctx, storage.ID) })
	}
	return nil
}

// resume takes up cross-signing and key backup with the secrets in the store. It
// reports false if they are not all there.
func (c *crypt) resume(ctx context.Context, seeds *crypto.CrossSigningKeysCache) (done bool, err error) {
	key, err := c.loadBackupKey(ctx)
	if err != nil || key == nil {
		return false, err
	}
	version, err := c.backupVersion(ctx)
	if err != nil || version == nil || version.AuthData.PublicKey != publicKey(key) {
		return false, err
	}
	if err := c.signDevice(ctx, seeds); err != nil {
		return false, err
	}
	return true, c.useBackup(ctx, key, version.Version)
}

// secretStorage opens the account's secret storage, or makes one if there is
// none and the bot may (fresh). It returns nil if it has no key to it:
// https://spec.matrix.org/v1.16/client-server-api/#storage
func (c *crypt) secretStorage(ctx context.Context, may bool) (key *ssss.Key, fresh bool, err error) {
	text := c.conf.RecoveryKey
	if text == "" {
		written, err := os.ReadFile(c.store.path(recoveryFile))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, false, err
		}
		text = strings.TrimSpace(string(written))
	}
	var keyID string
	var data *ssss.KeyMetadata
	err = c.try(ctx, func(ctx context.Context) (err error) {
		keyID, data, err = c.machine.SSSS.GetDefaultKeyData(ctx)
		return err
	})
	switch {
	case errors.Is(err, ssss.ErrNoDefaultKeyAccountDataEvent), errors.Is(err, ssss.ErrNoKeyFieldInAccountDataEvent):
		if !may {
			c.log.Warn("The account has cross-signing, but no secret storage that holds its keys: the bot's device stays unsigned, and there is no key backup. " +
				"Set up secret storage with another client, and set recovery_key")
			return nil, false, nil
		}
		key, err = c.makeSecretStorage(ctx, text)
		return key, true, err
	case err != nil:
		return nil, false, fmt.Errorf("reading the account's secret storage: %w", err)
	case text == "":
		c.log.Warn("The bot's device is not signed, and no key backup is used: clients may refuse to share keys with the bot, " +
			"and values are lost with the key store. Set recovery_key to the recovery key of the account")
		return nil, false, nil
	}
	key, err = data.VerifyRecoveryKey(keyID, text)
	switch {
	case errors.Is(err, ssss.ErrUnverifiableKey): // then the secrets tell
		return key, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("recovery_key does not open the account's secret storage: %w", err)
	}
	return key, false, nil
}

// makeSecretStorage makes a secret storage with a key, or a new one. A new key
// is written to its file first.
func (c *crypt) makeSecretStorage(ctx context.Context, text string) (*ssss.Key, error) {
	var raw []byte
	if text != "" {
		if raw = utils.DecodeBase58RecoveryKey(text); raw == nil {
			return nil, fmt.Errorf("recovery_key: %w", ssss.ErrInvalidRecoveryKey)
		}
	}
	var key *ssss.Key
	var err error
	if raw != nil {
		key, err = ssss.WrapKey(raw, nil)
	} else if key, err = ssss.NewKey(""); err == nil {
		err = c.writeRecoveryKey(key.RecoveryKey())
	}
	if err != nil {
		return nil, err
	}
	if err := c.try(ctx, func(ctx context.Context) error { return c.machine.SSSS.SetKeyData(ctx, key.ID, key.Metadata) }); err != nil {
		return nil, fmt.Errorf("setting up the account's secret storage: %w", err)
	}
	return key, nil
}

func (c *crypt) writeRecoveryKey(text string) error {
	path := c.store.path(recoveryFile)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text + "\n")
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	c.log.WithField("file", path).Warn("The account's new recovery key is in this file. Move it to a safe place: " +
		"it is all that is needed to read the bot's values when the key store is lost")
	return nil
}

// crossSign signs the bot's device with the account's cross-signing keys, which
// it takes from the secret storage or makes. It returns nil if there are none to
// be had: https://spec.matrix.org/v1.16/client-server-api/#cross-signing
func (c *crypt) crossSign(ctx context.Context, storage *ssss.Key, fresh bool, seeds *crypto.CrossSigningKeysCache, master id.Ed25519) (*crypto.CrossSigningKeysCache, error) {
	if seeds == nil && !fresh {
		err := c.try(ctx, func(ctx context.Context) error { return c.machine.FetchCrossSigningKeysFromSSSS(ctx, storage) })
		switch {
		case err == nil:
			seeds = c.machine.CrossSigningKeys
		case !errors.Is(err, mautrix.MNotFound):
			return nil, fmt.Errorf("reading the cross-signing keys from the account's secret storage: %w", err)
		case master != "":
			return nil, errors.New("the account's secret storage does not hold its cross-signing keys: store them there with another client")
		}
		if seeds != nil && master != "" && seeds.PublicKeys().MasterKey != master {
			return nil, errors.New("the cross-signing keys in the account's secret storage are not those that the account has now: repair that with another client")
		}
	}
	made := seeds == nil
	if made {
		var err error
		if seeds, err = c.machine.GenerateCrossSigningKeys(); err != nil {
			return nil, err
		}
	}
	if err := c.saveSeeds(ctx, seeds); err != nil {
		return nil, err
	}
	if fresh || made {
		if err := c.try(ctx, func(ctx context.Context) error {
			return c.machine.UploadCrossSigningKeysToSSSS(ctx, storage, seeds)
		}); err != nil {
			return nil, fmt.Errorf("storing the cross-signing keys in the account's secret storage: %w", err)
		}
	}
	if master == "" {
		if err := c.try(ctx, func(ctx context.Context) error {
			return c.machine.PublishCrossSigningKeys(ctx, seeds, c.authenticate)
		}); err != nil {
			if c.conf.Password == "" {
				err = fmt.Errorf("%w; if the homeserver wants the account's password for this, set password beside access_token for the first start, or set up cross-signing with another client and set recovery_key", err)
			}
			return nil, fmt.Errorf("publishing the account's cross-signing keys: %w", err)
		}
	}
	return seeds, c.signDevice(ctx, seeds)
}

// authenticate gives the account's password to a homeserver that asks for it:
// https://spec.matrix.org/v1.16/client-server-api/#user-interactive-authentication-api
func (c *crypt) authenticate(asked *mautrix.RespUserInteractive) any {
	if c.conf.Password == "" {
		return nil
	}
	return &mautrix.ReqUIAuthLogin{
		BaseAuthData: mautrix.BaseAuthData{Type: mautrix.AuthTypePassword, Session: asked.Session},
		User:         c.client.UserID.String(),
		Password:     c.conf.Password,
	}
}

// signDevice signs the bot's device, unless it is signed.
func (c *crypt) signDevice(ctx context.Context, seeds *crypto.CrossSigningKeysCache) error {
	if err := c.machine.ImportCrossSigningKeys(seeds.Seeds()); err != nil {
		return err
	}
	own := c.machine.OwnIdentity()
	signed, err := c.sessions.IsKeySignedBy(ctx, own.UserID, own.SigningKey, own.UserID, seeds.SelfSigningKey.PublicKey())
	if err != nil || signed {
		return err
	}
	if err := c.try(ctx, func(ctx context.Context) error { return c.machine.SignOwnDevice(ctx, own) }); err != nil {
		return fmt.Errorf("signing the bot's device: %w", err)
	}
	if err := c.try(ctx, c.machine.SignOwnMasterKey); err != nil {
		return fmt.Errorf("signing the account's master key: %w", err)
	}
	return nil
}

// openBackup takes the key of the account's backup from the secret storage, or
// makes a backup if there is none.
func (c *crypt) openBackup(ctx context.Context, storage *ssss.Key, fresh bool) error {
	key, err := c.loadBackupKey(ctx)
	if err != nil {
		return err
	}
	if key == nil && !fresh {
		var raw []byte
		err := c.try(ctx, func(ctx context.Context) (err error) {
			raw, err = c.machine.SSSS.GetDecryptedAccountData(ctx, event.AccountDataMegolmBackupKey, storage)
			return err
		})
		switch {
		case err == nil:
			if key, err = backup.MegolmBackupKeyFromBytes(raw); err != nil {
				return fmt.Errorf("the backup's key in the account's secret storage: %w", err)
			}
		case !errors.Is(err, mautrix.MNotFound):
			return fmt.Errorf("reading the backup's key from the account's secret storage: %w", err)
		}
	}
	version, err := c.backupVersion(ctx)
	switch {
	case err != nil:
		return err
	case version == nil:
		return c.makeBackup(ctx, storage)
	case key == nil || version.AuthData.PublicKey != publicKey(key):
		c.log.Warn("The account's key backup can't be opened with recovery_key and is not used: values are lost with the key store")
		return nil
	}
	if err := c.saveSecret(ctx, id.SecretMegolmBackupV1, key.Bytes()); err != nil {
		return err
	}
	return c.useBackup(ctx, key, version.Version)
}

// backupVersion returns the account's key backup, or nil if there is none.
func (c *crypt) backupVersion(ctx context.Context) (version *mautrix.RespRoomKeysVersion[backup.MegolmAuthData], err error) {
	err = c.try(ctx, func(ctx context.Context) (err error) {
		version, err = c.client.GetKeyBackupLatestVersion(ctx)
		return err
	})
	switch {
	case errors.Is(err, mautrix.MNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("asking for the account's key backup: %w", err)
	}
	return version, nil
}

// makeBackup makes a key backup for the account.
func (c *crypt) makeBackup(ctx context.Context, storage *ssss.Key) error {
	key, err := backup.NewMegolmBackupKey()
	if err != nil {
		return err
	}
	// The key is safe before anything is encrypted for it.
	if err := c.try(ctx, func(ctx context.Context) error {
		return c.machine.SSSS.SetEncryptedAccountData(ctx, event.AccountDataMegolmBackupKey, key.Bytes(), storage)
	}); err != nil {
		return fmt.Errorf("storing the backup's key in the account's secret storage: %w", err)
	}
	if err := c.saveSecret(ctx, id.SecretMegolmBackupV1, key.Bytes()); err != nil {
		return err
	}
	auth := backup.MegolmAuthData{PublicKey: publicKey(key)}
	master := c.machine.CrossSigningKeys.MasterKey
	signature, err := master.SignJSON(&auth)
	if err != nil {
		return err
	}
	auth.Signatures = signatures.NewSingleSignature(c.client.UserID, id.KeyAlgorithmEd25519, master.PublicKey().String(), signature)
	var made *mautrix.RespRoomKeysVersionCreate
	if err := c.try(ctx, func(ctx context.Context) (err error) {
		made, err = c.client.CreateKeyBackupVersion(ctx, &mautrix.ReqRoomKeysVersionCreate[backup.MegolmAuthData]{
			Algorithm: id.KeyBackupAlgorithmMegolmBackupV1,
			AuthData:  auth,
		})
		return err
	}); err != nil {
		return fmt.Errorf("making the account's key backup: %w", err)
	}
	if err := c.machine.SetKeyBackupVersion(ctx, made.Version); err != nil { // there is nothing to restore
		return err
	}
	return c.useBackup(ctx, key, made.Version)
}

// useBackup uses a backup from now on, and restores what is in it if the store
// does not know it yet.
func (c *crypt) useBackup(ctx context.Context, key *backup.MegolmBackupKey, version id.KeyBackupVersion) error {
	c.backup.key, c.backup.version = key, version
	c.backup.received(ctx, "", "", 0)
	if c.machine.KeyBackupVersion() == version {
		return nil
	}
	if err := c.try(ctx, c.backup.restore); err != nil {
		return fmt.Errorf("restoring the key backup: %w", err)
	}
	return c.machine.SetKeyBackupVersion(ctx, version)
}

// The secrets in the store are locked as all keys there are.

func (c *crypt) saveSecret(ctx context.Context, name id.Secret, secret []byte) error {
	if err := c.sessions.PutSecret(ctx, name, base64.StdEncoding.EncodeToString(secret)); err != nil {
		return fmt.Errorf("writing the key store: %w", err)
	}
	return nil
}

func (c *crypt) loadSecret(ctx context.Context, name id.Secret) ([]byte, error) {
	text, err := c.sessions.GetSecret(ctx, name)
	if err != nil {
		return nil, c.store.damaged(err)
	}
	return base64.StdEncoding.DecodeString(text)
}

func (c *crypt) saveSeeds(ctx context.Context, keys *crypto.CrossSigningKeysCache) error {
	seeds := keys.Seeds()
	return errors.Join(
		c.saveSecret(ctx, id.SecretXSMaster, seeds.MasterKey),
		c.saveSecret(ctx, id.SecretXSSelfSigning, seeds.SelfSigningKey),
		c.saveSecret(ctx, id.SecretXSUserSigning, seeds.UserSigningKey))
}

// loadSeeds returns the cross-signing keys in the store, or nil.
func (c *crypt) loadSeeds(ctx context.Context) (*crypto.CrossSigningKeysCache, error) {
	var seeds crypto.CrossSigningSeeds
	var err [3]error
	seeds.MasterKey, err[0] = c.loadSecret(ctx, id.SecretXSMaster)
	seeds.SelfSigningKey, err[1] = c.loadSecret(ctx, id.SecretXSSelfSigning)
	seeds.UserSigningKey, err[2] = c.loadSecret(ctx, id.SecretXSUserSigning)
	if err := errors.Join(err[:]...); err != nil {
		return nil, err
	}
	if len(seeds.MasterKey) == 0 || len(seeds.SelfSigningKey) == 0 || len(seeds.UserSigningKey) == 0 {
		return nil, nil
	}
	keys, decodeErr := seeds.Decode()
	return &keys, decodeErr
}

// loadBackupKey returns the backup's key in the store, or nil.
func (c *crypt) loadBackupKey(ctx context.Context) (*backup.MegolmBackupKey, error) {
	raw, err := c.loadSecret(ctx, id.SecretMegolmBackupV1)
	if err != nil || len(raw) == 0 {
		return nil, err
	}
	return backup.MegolmBackupKeyFromBytes(raw)
}
