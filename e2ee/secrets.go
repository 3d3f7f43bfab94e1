//go:build goolm

package e2ee

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"maunium.net/go/mautrix/crypto/ssss"
	"maunium.net/go/mautrix/crypto/utils"
	"maunium.net/go/mautrix/id"
)

// The account's secret storage keeps secrets at the homeserver, encrypted for the
// recovery key: https://spec.matrix.org/v1.16/client-server-api/#storage

// defaultStorage asks for the key that the account's secret storage is locked
// with. The data is nil if there is none.
func (c *crypt) defaultStorage(ctx context.Context) (keyID string, data *ssss.KeyMetadata, err error) {
	err = c.try(ctx, func(ctx context.Context) (err error) {
		keyID, data, err = c.machine.SSSS.GetDefaultKeyData(ctx)
		return err
	})
	switch {
	case errors.Is(err, ssss.ErrNoDefaultKeyAccountDataEvent), errors.Is(err, ssss.ErrNoKeyFieldInAccountDataEvent):
		return "", nil, nil
	case err != nil:
		return "", nil, fmt.Errorf("reading the account's secret storage: %w", err)
	}
	return keyID, data, nil
}

// openStorage opens the account's secret storage with the recovery key. It
// returns nil if there is no storage or no recovery key.
func (c *crypt) openStorage(keyID string, data *ssss.KeyMetadata) (*ssss.Key, error) {
	text, _, err := c.recoveryKey()
	if err != nil || text == "" || data == nil {
		return nil, err
	}
	key, err := data.VerifyRecoveryKey(keyID, text)
	if err != nil && !errors.Is(err, ssss.ErrUnverifiableKey) { // then the secrets tell
		return nil, fmt.Errorf("recovery_key does not open the account's secret storage: %w", err)
	}
	return key, nil
}

// makeStorage makes a secret storage with the recovery key, or a new one. A new
// key is written to its file first.
func (c *crypt) makeStorage(ctx context.Context) (*ssss.Key, error) {
	text, source, err := c.recoveryKey()
	if err != nil {
		return nil, err
	}
	var key *ssss.Key
	if text == "" {
		if key, err = ssss.NewKey(""); err == nil {
			err = c.writeRecoveryKey(key.RecoveryKey())
		}
	} else if raw := utils.DecodeBase58RecoveryKey(text); raw == nil {
		err = fmt.Errorf("%s: %w", source, ssss.ErrInvalidRecoveryKey)
	} else {
		key, err = ssss.WrapKey(raw, nil)
	}
	if err != nil {
		return nil, err
	}
	if err := c.try(ctx, func(ctx context.Context) error { return c.machine.SSSS.SetKeyData(ctx, key.ID, key.Metadata) }); err != nil {
		return nil, fmt.Errorf("setting up the account's secret storage: %w", err)
	}
	return key, nil
}

// recoveryKey returns the recovery key and where it is from: the settings, or the
// file of an earlier start. It is empty if there is none.
func (c *crypt) recoveryKey() (text, source string, err error) {
	if c.conf.RecoveryKey != "" {
		return c.conf.RecoveryKey, "recovery_key", nil
	}
	path := c.store.path(recoveryFile)
	written, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", "", fmt.Errorf("the account's recovery key: %w", err)
	}
	return strings.TrimSpace(string(written)), path, nil
}

// writeRecoveryKey writes a new recovery key to its file. It is there wholly, or
// not at all.
func (c *crypt) writeRecoveryKey(text string) error {
	path := c.store.path(recoveryFile)
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("writing the account's recovery key: %w", err)
	}
	_, err = file.WriteString(text + "\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("writing the account's recovery key: %w", err)
	}
	c.log.WithField("file", path).Warn("The account's new recovery key is in this file. Move it to a safe place: " +
		"it is all that is needed to read the bot's values when the key store is lost")
	return nil
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
