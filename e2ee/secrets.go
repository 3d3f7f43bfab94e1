//go:build goolm

package e2ee

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto/ssss"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// The account's secret storage keeps secrets at the homeserver, encrypted for the
// recovery key: https://spec.matrix.org/v1.16/client-server-api/#storage

// An unusable error says what of the account can't be used as other clients, or the settings,
// have it. No request changes that.
type unusable struct{ error }

func (u unusable) Unwrap() error { return u.error }

// accountData returns what stands in the account data, or nil. Other clients put there what they
// like, and asking again would make nothing better of it: who calls this decodes it.
func (c *crypt) accountData(ctx context.Context, name string) (content json.RawMessage, err error) {
	err = c.try(ctx, func(ctx context.Context) error { return c.client.GetAccountData(ctx, name, &content) })
	switch {
	case errors.Is(err, mautrix.MNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading %s from the account's data: %w", name, err)
	}
	return content, nil
}

// secret returns a secret of the account's secret storage, or nil if it is not there.
func (c *crypt) secret(ctx context.Context, kind event.Type, storage *ssss.Key) ([]byte, error) {
	content, err := c.accountData(ctx, kind.Type)
	if err != nil || content == nil {
		return nil, err
	}
	var encrypted ssss.EncryptedAccountDataEventContent
	var secret []byte
	if err = json.Unmarshal(content, &encrypted); err == nil {
		secret, err = encrypted.Decrypt(kind.Type, storage)
	}
	if err != nil {
		return nil, unusable{fmt.Errorf("%s in the account's secret storage can't be decrypted: %w", kind.Type, err)}
	}
	return secret, nil
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
