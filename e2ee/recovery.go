//go:build goolm

package e2ee

import (
	"context"
	"fmt"

	"maunium.net/go/mautrix/crypto"
)

// recovery sees to it that the bot's device is cross-signed and that there is a
// key backup, as far as the recovery key opens them or nobody has set them up
// yet. It may be interrupted at any place; the next start goes on from there.
//
// What is done is told by the homeserver: its answer to a request may have been
// lost, and what it had it may have forgotten. That all is done is told by the
// secret storage's default key, which is set last.
func (c *crypt) recovery(ctx context.Context) error {
	published, err := c.publishedKeys(ctx)
	if err != nil {
		return err
	}
	seeds, err := c.loadSeeds(ctx)
	if err != nil {
		return err
	}
	if seeds != nil && published.master != "" && seeds.PublicKeys().MasterKey != published.master {
		c.log.Warn("The account's cross-signing keys were replaced; the bot needs the new recovery_key to sign its device")
		seeds = nil
	}
	keyID, data, err := c.defaultStorage(ctx)
	if err != nil {
		return err
	}
	if seeds != nil && published.master != "" && data != nil {
		if done, err := c.resume(ctx, seeds, published); done || err != nil {
			return err
		}
	}

	storage, err := c.openStorage(keyID, data)
	fresh := data == nil && (seeds != nil || published.master == "")
	switch {
	case err != nil:
		return err
	case fresh:
		storage, err = c.makeStorage(ctx)
	case data == nil:
		c.log.Warn("The account has cross-signing, but no secret storage that holds its keys: the bot's device stays unsigned, and there is no key backup. " +
			"Set up secret storage with another client, and set recovery_key")
	case storage == nil && seeds != nil:
		c.log.Warn("Another client has deleted or replaced the account's key backup, and it is not used: values are lost with the key store. " +
			"Set recovery_key to the recovery key of the account")
	case storage == nil:
		c.log.Warn("The bot's device is not signed, and no key backup is used: clients may refuse to share keys with the bot, " +
			"and values are lost with the key store. Set recovery_key to the recovery key of the account")
	}
	if err != nil || storage == nil {
		return err
	}
	if err := c.crossSign(ctx, storage, fresh, seeds, published); err != nil {
		return err
	}
	if err := c.openBackup(ctx, storage, fresh); err != nil {
		return err
	}
	if !fresh {
		return nil
	}
	if err := c.try(ctx, func(ctx context.Context) error { return c.machine.SSSS.SetDefaultKeyID(ctx, storage.ID) }); err != nil {
		return fmt.Errorf("setting up the account's secret storage: %w", err)
	}
	return nil
}

// resume takes up cross-signing and key backup with the secrets in the store. It
// reports false if they don't open the backup.
func (c *crypt) resume(ctx context.Context, seeds *crypto.CrossSigningKeysCache, published published) (done bool, err error) {
	if err := c.signDevice(ctx, seeds, published); err != nil {
		return false, err
	}
	version, err := c.backupVersion(ctx)
	if err != nil || version == nil {
		return false, err
	}
	key, err := c.backupKey(ctx, version.AuthData.PublicKey, nil)
	if err != nil || key == nil {
		return false, err
	}
	return true, c.useBackup(ctx, key, version.Version, version.Count)
}
