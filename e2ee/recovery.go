//go:build goolm

package e2ee

import (
	"context"
	"errors"
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
	begun, err := c.loadBegun(ctx)
	if err != nil {
		return err
	}
	known := seeds != nil && begun == nil // the store was in use before
	if seeds != nil && published.master != "" && seeds.PublicKeys().MasterKey != published.master {
		if known {
			c.log.Warn("The account's cross-signing keys were replaced by another client; the bot needs the new recovery_key to sign its device, " +
				"and until then other clients may refuse to share keys with it")
		}
		seeds = nil
	}
	done, err := c.setUp(ctx, seeds, begun, published)
	var cause unusable
	if known && errors.As(err, &cause) {
		c.log.WithError(err).Warn("The bot starts with the keys in its key store alone, with which values can be lost")
		err = nil
	}
	if err != nil || done || !known {
		return err
	}
	_, err = c.resumeBackup(ctx)
	return err
}

// setUp signs the device and opens the backup with the secrets in the store (seeds), or in the
// account's secret storage, which it makes if nobody has, or goes on to make as begun. It reports
// false if no backup is used.
func (c *crypt) setUp(ctx context.Context, seeds *crypto.CrossSigningKeysCache, begun *begunStorage, published published) (done bool, err error) {
	keyID, description, err := c.defaultStorage(ctx)
	if err != nil {
		return false, err
	}
	if begun != nil && begun.ID == keyID { // all but this was done
		if err := c.endStorage(ctx, keyID); err != nil {
			return false, err
		}
	}
	storage, wrong := c.openStorage(keyID, description)
	if seeds != nil && published.master != "" && keyID != "" {
		if err := c.signDevice(ctx, seeds, published); err != nil {
			return false, err
		}
		if done, err := c.resumeBackup(ctx); err != nil {
			return false, err
		} else if done {
			if wrong != nil {
				c.log.WithError(wrong).Warn("The bot works with what is in its key store. When that is lost, values can't be read")
			}
			return true, nil
		}
	}
	if wrong != nil {
		return false, wrong
	}
	fresh := keyID == "" && (seeds != nil || published.master == "")
	switch {
	case fresh:
		storage, err = c.beginStorage(ctx)
	case keyID == "":
		c.log.Warn("The account has cross-signing, but no secret storage that holds its keys: the bot's device stays unsigned, and there is no key backup. " +
			"Set up secret storage with another client, and set recovery_key")
	case storage == nil && seeds != nil:
		c.log.Warn("Another client has replaced the account's key backup, and it is not used: values are lost with the key store. " +
			"Set recovery_key to the recovery key of the account")
	case storage == nil:
		c.log.Warn("The bot's device is not signed, and no key backup is used: clients may refuse to share keys with the bot, " +
			"and values are lost with the key store. Set recovery_key to the recovery key of the account")
	}
	if err != nil || storage == nil {
		return false, err
	}
	if err := c.crossSign(ctx, storage, fresh, seeds, published); err != nil {
		return false, err
	}
	if err := c.openBackup(ctx, storage, fresh); err != nil {
		return false, err
	}
	if fresh {
		if err := c.try(ctx, func(ctx context.Context) error { return c.machine.SSSS.SetDefaultKeyID(ctx, storage.ID) }); err != nil {
			return false, fmt.Errorf("setting up the account's secret storage: %w", err)
		}
	}
	return true, c.endStorage(ctx, storage.ID)
}

// resumeBackup takes up the key backup with its key in the store. It reports false if that does
// not open it. A backup that another client has deleted it does not make anew, as that client
// may want none, or be about to make another.
func (c *crypt) resumeBackup(ctx context.Context) (done bool, err error) {
	version, err := c.latestBackup(ctx)
	if err != nil {
		return false, err
	}
	if version == nil {
		deleted := c.machine.KeyBackupVersion() != ""
		if deleted {
			c.log.Warn(deletedBackup)
		}
		return deleted, nil
	}
	key, err := c.backupKey(ctx, version.public, nil)
	if err != nil || key == nil {
		return false, err
	}
	return true, c.useBackup(ctx, key, version.version, version.count)
}

// deletedBackup is said where another client has deleted the backup that the bot used.
const deletedBackup = "The account's key backup was deleted by another client: values are lost with the key store until another client sets up a new one. " +
	"The bot makes none, which nobody may want"
