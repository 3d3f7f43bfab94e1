//go:build goolm

package e2ee

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto/backup"
	"maunium.net/go/mautrix/crypto/signatures"
	"maunium.net/go/mautrix/crypto/ssss"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// openBackup uses the account's backup, or makes one if there has been none. It reports false
// if no backup is used.
func (c *crypt) openBackup(ctx context.Context, storage *ssss.Key, fresh bool) (used bool, err error) {
	version, err := c.latestBackup(ctx)
	if err != nil {
		return false, err
	}
	if version == nil {
		if c.deleted() {
			return false, nil
		}
		return true, c.makeBackup(ctx, storage)
	}
	secrets := storage
	if fresh { // there is nothing in it yet
		secrets = nil
	}
	key, err := c.backupKey(ctx, version.public, secrets)
	switch {
	case err != nil:
		return false, err
	case key == nil:
		c.log.Warn("The account's key backup can't be opened, as the account's secret storage does not hold its key, and is not used: " +
			"values are lost with the key store. Set up the key backup anew with another client, which puts the key there")
		return false, nil
	}
	if fresh { // an earlier start made the backup, with a storage that it did not finish
		if err := c.storeBackupKey(ctx, storage, key); err != nil {
			return false, err
		}
	}
	return true, c.useBackup(ctx, key, version.version, version.count)
}

// backupKey returns the key to the backup with a public key, from the store or the secret
// storage, which may be nil, or nil if neither has it.
func (c *crypt) backupKey(ctx context.Context, public id.Ed25519, storage *ssss.Key) (*backup.MegolmBackupKey, error) {
	key, err := c.loadBackupKey(ctx)
	if err != nil || key != nil && publicKey(key) == public {
		return key, err
	}
	if storage == nil {
		return nil, nil
	}
	raw, err := c.secret(ctx, event.AccountDataMegolmBackupKey, storage)
	if err == nil {
		if raw == nil {
			return nil, nil
		}
		if key, err = backup.MegolmBackupKeyFromBytes(raw); err != nil {
			err = unusable{err}
		}
	}
	var cause unusable
	switch {
	case errors.As(err, &cause): // other clients put there what they like
		c.log.WithError(err).Debug("The account's secret storage has no key to the key backup")
		return nil, nil
	case err != nil:
		return nil, err
	case publicKey(key) != public:
		return nil, nil
	}
	return key, nil
}

// A backupVersion is what the homeserver says of a version of the account's key backup.
type backupVersion struct {
	version id.KeyBackupVersion
	public  id.Ed25519 // "" if it is of a kind that the bot does not know
	count   int        // of sessions in it
}

// latestBackup returns the account's key backup, or nil if there is none.
func (c *crypt) latestBackup(ctx context.Context) (*backupVersion, error) {
	// What other clients have put there is decoded when it is here, as it gets no better when asked for again.
	var answer mautrix.RespRoomKeysVersion[json.RawMessage]
	err := c.try(ctx, func(ctx context.Context) error {
		_, err := c.client.MakeRequest(ctx, http.MethodGet, c.client.BuildClientURL("v3", "room_keys", "version"), nil, &answer)
		return err
	})
	switch {
	case errors.Is(err, mautrix.MNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("asking for the account's key backup: %w", err)
	}
	var auth struct {
		PublicKey id.Ed25519 `json:"public_key"`
	}
	if answer.Algorithm != id.KeyBackupAlgorithmMegolmBackupV1 || json.Unmarshal(answer.AuthData, &auth) != nil {
		auth.PublicKey = ""
	}
	return &backupVersion{answer.Version, auth.PublicKey, answer.Count}, nil
}

// storeBackupKey puts the backup's key into the secret storage.
func (c *crypt) storeBackupKey(ctx context.Context, storage *ssss.Key, key *backup.MegolmBackupKey) error {
	if err := c.try(ctx, func(ctx context.Context) error {
		return c.machine.SSSS.SetEncryptedAccountData(ctx, event.AccountDataMegolmBackupKey, key.Bytes(), storage)
	}); err != nil {
		return fmt.Errorf("storing the backup's key in the account's secret storage: %w", err)
	}
	return nil
}

// makeBackup makes a key backup for the account.
func (c *crypt) makeBackup(ctx context.Context, storage *ssss.Key) error {
	key, err := backup.NewMegolmBackupKey()
	if err != nil {
		return err
	}
	// The key is safe before anything is encrypted for it.
	if err := c.storeBackupKey(ctx, storage, key); err != nil {
		return err
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
	return c.useBackup(ctx, key, made.Version, 0)
}

// useBackup uses a backup from now on, and restores what is in it if the store
// does not know it yet: about count sessions.
func (c *crypt) useBackup(ctx context.Context, key *backup.MegolmBackupKey, version id.KeyBackupVersion, count int) error {
	opened, err := c.backup.adopt(ctx, key, version)
	if err != nil {
		return err
	}
	c.backup.received(ctx, "", "", 0)
	if c.machine.KeyBackupVersion() == version {
		return nil
	}
	if err := opened.restore(ctx, count, !c.behind); err != nil {
		return fmt.Errorf("restoring the key backup: %w", err)
	}
	return c.machine.SetKeyBackupVersion(ctx, version)
}

// loadBackupKey returns the backup's key in the store, or nil.
func (c *crypt) loadBackupKey(ctx context.Context) (*backup.MegolmBackupKey, error) {
	raw, err := c.loadSecret(ctx, id.SecretMegolmBackupV1)
	if err != nil || len(raw) == 0 {
		return nil, err
	}
	return backup.MegolmBackupKeyFromBytes(raw)
}
