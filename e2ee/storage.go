//go:build goolm

package e2ee

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"maunium.net/go/mautrix/crypto/ssss"
	"maunium.net/go/mautrix/crypto/utils"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// defaultStorage returns the ID of the key that the account's secret storage is locked with,
// and the key's description, which may be anything. The ID is empty if there is no storage.
func (c *crypt) defaultStorage(ctx context.Context) (keyID string, description json.RawMessage, err error) {
	content, err := c.accountData(ctx, event.AccountDataSecretStorageDefaultKey.Type)
	if err != nil {
		return "", nil, err
	}
	var standing ssss.DefaultSecretStorageKeyContent
	if json.Unmarshal(content, &standing) != nil || standing.KeyID == "" {
		return "", nil, nil
	}
	description, err = c.accountData(ctx, storageKeyType(standing.KeyID))
	return standing.KeyID, description, err
}

func storageKeyType(keyID string) string {
	return event.AccountDataSecretStorageKey.Type + "." + keyID
}

// openStorage opens the account's secret storage with the recovery key, or with the passphrase
// that stands in its place. It returns nil if there is no storage or no recovery key.
func (c *crypt) openStorage(keyID string, description json.RawMessage) (*ssss.Key, error) {
	text, source, err := c.recoveryKey()
	if err != nil || text == "" || keyID == "" {
		return nil, err
	}
	var data ssss.KeyMetadata
	if err := json.Unmarshal(description, &data); err != nil {
		return nil, unusable{fmt.Errorf("%s, which describes the account's secret storage, is missing or malformed: set up secret storage anew with another client: %w", storageKeyType(keyID), err)}
	}
	raw, spelling := decodeRecoveryKey(text)
	err = spelling
	phrase := spelling != nil && data.Passphrase != nil
	if phrase {
		raw, err = passphraseKey(data.Passphrase, text)
	}
	if err != nil {
		return nil, unusable{fmt.Errorf("%s does not open the account's secret storage %s: %w", source, keyID, err)}
	}
	key, err := data.VerifyRecoveryKey(keyID, utils.EncodeBase58RecoveryKey(raw))
	switch {
	case err == nil, errors.Is(err, ssss.ErrUnverifiableKey) && !phrase: // then the secrets tell
		return key, nil
	case errors.Is(err, ssss.ErrUnverifiableKey): // a wrong passphrase makes a key as well
		err = errors.New("its description has no iv and mac, so that a passphrase can't be checked: set recovery_key to the recovery key")
		return nil, unusable{fmt.Errorf("%s is not used for the account's secret storage %s: %w", source, keyID, err)}
	case phrase:
		err = fmt.Errorf("it is not its recovery key (%w) nor its passphrase: %w", spelling, err)
	}
	return nil, unusable{fmt.Errorf("%s does not open the account's secret storage %s: %w: "+
		"it may be another account's, or from before another client set up the storage anew: set recovery_key to the present one", source, keyID, err)}
}

// A begunStorage is a secret storage that is being set up. It is kept in the store, so that
// the next start goes on with it, until it is the account's.
type begunStorage struct {
	ID  string `json:"id"`
	Key []byte `json:"key"`
}

// begunSecret is the name that it has in the store.
const begunSecret id.Secret = "dev.joe.begun_storage"

func (c *crypt) loadBegun(ctx context.Context) (*begunStorage, error) {
	text, err := c.loadSecret(ctx, begunSecret)
	if err != nil || len(text) == 0 {
		return nil, err
	}
	var begun begunStorage
	if err := json.Unmarshal(text, &begun); err != nil {
		return nil, c.store.damaged(err)
	}
	return &begun, nil
}

// beginStorage begins a secret storage with the recovery key, or a new one, or goes on with the
// one that an earlier start has begun.
func (c *crypt) beginStorage(ctx context.Context) (*ssss.Key, error) {
	begun, err := c.loadBegun(ctx)
	if err != nil {
		return nil, err
	}
	text, source, err := c.recoveryKey()
	if err != nil {
		return nil, err
	}
	var key *ssss.Key
	switch {
	case text != "":
		raw, err := decodeRecoveryKey(text)
		if err != nil {
			return nil, unusable{fmt.Errorf("setting up the account's secret storage with %s: %w; leave it out to have one made", source, err)}
		}
		key, err = ssss.WrapKey(raw, nil)
		if err != nil {
			return nil, err
		}
	case begun != nil:
		key, err = ssss.WrapKey(begun.Key, nil)
	default:
		key, err = ssss.NewKey("")
	}
	if err != nil {
		return nil, err
	}
	if begun != nil {
		key.ID = begun.ID
	}
	saved, err := json.Marshal(begunStorage{key.ID, key.Key})
	if err == nil {
		err = c.saveSecret(ctx, begunSecret, saved)
	}
	if err != nil {
		return nil, err
	}
	if err := c.try(ctx, func(ctx context.Context) error { return c.machine.SSSS.SetKeyData(ctx, key.ID, key.Metadata) }); err != nil {
		return nil, fmt.Errorf("setting up the account's secret storage: %w", err)
	}
	return key, nil
}

// endStorage ends the set-up of a storage, as the account has one that the bot can use. If that is the
// one that was begun, its recovery key counts from now on, and is told if it is new; backedUp says
// that a backup is known to be used.
func (c *crypt) endStorage(ctx context.Context, keyID string, backedUp bool) error {
	begun, err := c.loadBegun(ctx)
	if err != nil || begun == nil {
		return err
	}
	given, _ := decodeRecoveryKey(c.conf.RecoveryKey)
	if begun.ID == keyID && !bytes.Equal(begun.Key, given) {
		if err := c.writeRecoveryKey(utils.EncodeBase58RecoveryKey(begun.Key), backedUp); err != nil {
			return err
		}
	}
	if err := c.sessions.DeleteSecret(ctx, begunSecret); err != nil {
		return fmt.Errorf("writing the key store: %w", err)
	}
	return nil
}
