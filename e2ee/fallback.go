//go:build goolm

package e2ee

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto/goolm/account"
	"maunium.net/go/mautrix/crypto/signatures"
	"maunium.net/go/mautrix/id"
)

// A fallback key is what the homeserver gives those who want to send something to the
// device and find its one-time keys used up, as anybody can use them up:
// https://spec.matrix.org/v1.16/client-server-api/#one-time-and-fallback-keys
// mautrix's machine decrypts what comes by one, but makes none.

// keepFallback is how long a fallback key is kept after it was replaced, for what is on
// its way still. Until then the next one is not replaced, though it is used, so that
// nobody can make the bot forget keys by using them. A variable for the tests.
var keepFallback = time.Hour

// lacksFallback says whether the homeserver has no fallback key of the device that was not
// used yet. One that does not know fallback keys says nothing of them.
func lacksFallback(response *mautrix.RespSync) bool {
	return response.FallbackKeys != nil && !slices.Contains(response.FallbackKeys, id.KeyAlgorithmSignedCurve25519)
}

// keys returns the keys by which others begin to send something to the device. Who uses
// them holds publishing.
func (c *crypt) keys() *account.Account {
	return c.machine.GetAccount().Internal.(*account.Account) // the one there is with the tag goolm
}

// publishFallback gives the homeserver a new fallback key, or the last one if that did not
// get there.
func (c *crypt) publishFallback(ctx context.Context) error {
	keys := c.keys()
	if !c.unsent {
		if keys.NumFallbackKeys > 1 {
			return nil
		}
		if err := keys.GenFallbackKey(); err != nil {
			return err
		}
		c.unsent = true
		if err := c.saveKeys(ctx); err != nil {
			return err
		}
	}
	request := make(map[id.KeyID]*mautrix.OneTimeKey)
	for keyID, key := range keys.FallbackKey() {
		signed := &mautrix.OneTimeKey{Key: key, Fallback: true, IsSigned: true}
		signature, err := c.machine.GetAccount().SignJSON(signed)
		if err != nil {
			return err
		}
		signed.Signatures = signatures.NewSingleSignature(c.client.UserID, id.KeyAlgorithmEd25519, c.client.DeviceID.String(), signature)
		request[id.NewKeyID(id.KeyAlgorithmSignedCurve25519, keyID)] = signed
	}
	if _, err := c.client.MakeRequest(ctx, http.MethodPost, c.client.BuildClientURL("v3", "keys", "upload"), map[string]any{"fallback_keys": request}, nil); err != nil {
		return err
	}
	c.unsent, c.forgetAt, keys.CurrentFallbackKey.Published = false, time.Now().Add(keepFallback), true
	return c.saveKeys(ctx)
}

// forgetFallback forgets the fallback key that was replaced, once nothing can be on its way
// that needs it. While the new one is unsent the homeserver still gives out the old one.
func (c *crypt) forgetFallback(ctx context.Context) error {
	if c.unsent || c.keys().NumFallbackKeys < 2 || time.Now().Before(c.forgetAt) {
		return nil
	}
	c.keys().ForgetOldFallbackKey()
	return c.saveKeys(ctx)
}

// shareKeys has the machine publish the device's keys and new one-time keys. It takes a
// fallback key for published as well then, which it does not publish.
func (c *crypt) shareKeys(ctx context.Context) error {
	err := c.machine.ShareKeys(ctx, -1)
	if c.unsent {
		c.keys().CurrentFallbackKey.Published = false
		err = errors.Join(err, c.saveKeys(ctx))
	}
	return err
}

func (c *crypt) saveKeys(ctx context.Context) error {
	if err := c.sessions.PutAccount(ctx, c.machine.GetAccount()); err != nil {
		return fmt.Errorf("writing the key store: %w", err)
	}
	return nil
}
