//go:build goolm

package e2ee

import (
	"context"
	"encoding/json"
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
	keyID, description, err := c.defaultStorage(ctx)
	if err != nil {
		return err
	}
	done, err := c.setUp(ctx, keyID, description, seeds, begun, published)
	var cause error // why the bot starts with what its store has
	if known && errors.As(err, new(unusable)) {
		cause, err = err, nil
	}
	if err == nil && !done && known {
		done, err = c.resumeBackup(ctx)
	}
	if err != nil {
		return err
	}
	switch {
	case cause == nil:
	case done:
		c.log.WithError(cause).Warn(storeAlone)
	default:
		c.log.WithError(cause).Warn("The bot starts with the keys in its key store alone, with which values can be lost")
	}
	if keyID == "" {
		return nil
	}
	return c.endStorage(ctx, keyID, false) // another client may have set up the account before the bot had
}

// storeAlone is said where recovery_key opens nothing, and the store has what the bot needs.
const storeAlone = "The bot works with what is in its key store. When that is lost, values can't be read"

// setUp signs the device and opens the backup with the secrets in the store (seeds), or in the
// account's secret storage, which it makes if nobody has, or goes on to make as begun. It reports
// false if no backup is used.
func (c *crypt) setUp(ctx context.Context, keyID string, description json.RawMessage, seeds *crypto.CrossSigningKeysCache, begun *begunStorage, published published) (done bool, err error) {
	if begun != nil && begun.ID == keyID { // all but this was done
		if err := c.endStorage(ctx, keyID, false); err != nil {
			return false, err
		}
	}
	storage, wrong := c.openStorage(keyID, description)
	if seeds != nil && published.master != "" && (keyID != "" || begun == nil) {
		if err := c.signDevice(ctx, seeds, published); err != nil {
			return false, err
		}
		if keyID == "" { // who has deleted the storage with the backup wants neither
			version, err := c.latestBackup(ctx)
			done = err == nil && version == nil && c.deleted()
			if err != nil || done {
				return done, err
			}
		} else if done, err := c.resumeBackup(ctx); err != nil {
			return false, err
		} else if done {
			if wrong != nil {
				c.log.WithError(wrong).Warn(storeAlone)
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
		c.log.Warn("No key backup is used, as there is none or another client has replaced it: values are lost with the key store. " +
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
	used, err := c.openBackup(ctx, storage, fresh)
	if err != nil {
		return false, err
	}
	if fresh {
		if err := c.try(ctx, func(ctx context.Context) error { return c.machine.SSSS.SetDefaultKeyID(ctx, storage.ID) }); err != nil {
			return false, fmt.Errorf("setting up the account's secret storage: %w", err)
		}
	}
	return true, c.endStorage(ctx, storage.ID, used)
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
		return c.deleted(), nil
	}
	key, err := c.backupKey(ctx, version.public, nil)
	if err != nil || key == nil {
		return false, err
	}
	return true, c.useBackup(ctx, key, version.version, version.count)
}

// deleted says of an account without a backup if another client has deleted the one that the bot
// used, and warns of it.
func (c *crypt) deleted() bool {
	if c.machine.KeyBackupVersion() == "" {
		return false
	}
	c.log.Warn(deletedBackup)
	return true
}

// deletedBackup is said where another client has deleted the backup that the bot used.
const deletedBackup = "The account's key backup was deleted by another client: values are lost with the key store until another client sets up a new one. " +
	"The bot makes none, which nobody may want"
