//go:build goolm

package e2ee

import (
	"context"
	"slices"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
)

// changed looks for the backup's key in the secret storage, which another client may have put
// there, as it is: the key comes with a new backup.
func (b *keyBackup) changed(_ context.Context, response *mautrix.RespSync, _ string) bool {
	if slices.ContainsFunc(response.AccountData.Events, func(evt *event.Event) bool {
		return evt.Type.Type == event.AccountDataMegolmBackupKey.Type
	}) {
		b.doubt()
	}
	return true
}

// reopen looks up which backup the account has now, as other clients delete and replace
// it, and uses that one from now on.
func (b *keyBackup) reopen(ctx context.Context) (err error) {
	b.doubted.Store(false)
	defer func() {
		if err != nil {
			b.doubted.Store(true)
		}
	}()
	version, err := b.latestBackup(ctx)
	if err != nil {
		return err
	}
	before := b.current.Load()
	switch {
	case version == nil:
		b.giveUp(before, deletedBackup)
		return nil
	case before != nil && before.version == version.version:
		return nil
	}
	keyID, data, err := b.defaultStorage(ctx)
	if err != nil {
		return err
	}
	storage, locked := b.openStorage(keyID, data)
	key, err := b.backupKey(ctx, version.public, storage)
	switch {
	case err != nil:
		return err
	case key == nil:
		advice := "set recovery_key to the account's recovery key and start the bot anew"
		if locked != nil {
			advice += ": " + locked.Error()
		}
		b.giveUp(before, "The account's key backup was replaced by another client, and can't be opened: values are lost with the key store; "+advice)
		return nil
	}
	now, err := b.adopt(ctx, key, version.version)
	if err != nil {
		return err
	}
	b.log.WithField("version", string(version.version)).Info("Another client has replaced the account's key backup; the bot's keys go to the new one")
	// That it was restored is not noted, since the account is the syncing goroutine's: the
	// next start restores it once more.
	if err := now.restore(ctx, version.count, false); err != nil && ctx.Err() == nil {
		b.log.WithError(err).Warn("Could not restore what is in the account's new key backup; the next start tries again")
	}
	return nil
}

// giveUp uses no backup from now on, and says so if one was used before.
func (b *keyBackup) giveUp(before *openedBackup, why string) {
	b.current.Store(nil)
	if before != nil {
		b.log.Warn(why)
	}
}
