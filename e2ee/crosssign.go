//go:build goolm

package e2ee

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/cenkalti/backoff/v5"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/signatures"
	"maunium.net/go/mautrix/crypto/ssss"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// published is what the homeserver says of the account's keys.
type published struct {
	master       id.Ed25519 // "" if the account has no cross-signing
	masterSigned mautrix.CrossSigningKeys
	device       mautrix.DeviceKeys
}

func (c *crypt) publishedKeys(ctx context.Context) (published, error) {
	own := c.client.UserID
	var answer *mautrix.RespQueryKeys
	if err := c.try(ctx, func(ctx context.Context) (err error) {
		answer, err = c.client.QueryKeys(ctx, &mautrix.ReqQueryKeys{DeviceKeys: mautrix.DeviceKeysRequest{own: {}}})
		return err
	}); err != nil {
		return published{}, fmt.Errorf("asking for the account's keys: %w", err)
	}
	master := answer.MasterKeys[own]
	return published{master.FirstKey(), master, answer.DeviceKeys[own][c.client.DeviceID]}, nil
}

// crossSign signs the bot's device with the account's cross-signing keys, which
// are those in the store (seeds), or in the secret storage, or new ones:
// https://spec.matrix.org/v1.16/client-server-api/#cross-signing
func (c *crypt) crossSign(ctx context.Context, storage *ssss.Key, fresh bool, seeds *crypto.CrossSigningKeysCache, published published) error {
	stored := false // in the secret storage
	if seeds == nil && !fresh {
		var err error
		if seeds, err = c.fetchSeeds(ctx, storage); err != nil {
			return err
		}
		stored = seeds != nil
		switch {
		case published.master == "":
		case !stored:
			return unusable{errors.New("the account's secret storage does not hold its cross-signing keys: store them there with another client")}
		case seeds.PublicKeys().MasterKey != published.master:
			return unusable{errors.New("the cross-signing keys in the account's secret storage are not those that the account has now: repair that with another client")}
		}
	}
	if seeds == nil {
		var err error
		if seeds, err = c.machine.GenerateCrossSigningKeys(); err != nil {
			return err
		}
	}
	if err := c.saveSeeds(ctx, seeds); err != nil {
		return err
	}
	// What is published has to be in the storage before, or else it could be lost.
	if fresh || published.master == "" && !stored {
		if err := c.try(ctx, func(ctx context.Context) error {
			return c.machine.UploadCrossSigningKeysToSSSS(ctx, storage, seeds)
		}); err != nil {
			return fmt.Errorf("storing the cross-signing keys in the account's secret storage: %w", err)
		}
	}
	if published.master == "" {
		if err := c.try(ctx, func(ctx context.Context) error {
			err := c.alone(func() error { return c.machine.PublishCrossSigningKeys(ctx, seeds, c.authenticate) }) // and has the machine use them
			var refused mautrix.HTTPError
			if errors.As(err, &refused) && refused.IsStatus(http.StatusUnauthorized) && !errors.Is(err, mautrix.MUnknownToken) {
				return backoff.Permanent(err) // it asks for what the bot has not got, and would each time
			}
			return err
		}); err != nil {
			if c.conf.Password == "" {
				err = fmt.Errorf("%w; if the homeserver wants the account's password for this, set password beside access_token for the first start, or set up cross-signing with another client and set recovery_key", err)
			}
			return fmt.Errorf("publishing the account's cross-signing keys: %w", err)
		}
	}
	return c.signDevice(ctx, seeds, published)
}

// fetchSeeds returns the cross-signing keys in the account's secret storage, or nil if it does not
// hold all of them.
func (c *crypt) fetchSeeds(ctx context.Context, storage *ssss.Key) (*crypto.CrossSigningKeysCache, error) {
	var seeds [3][]byte
	for i, kind := range []event.Type{event.AccountDataCrossSigningMaster, event.AccountDataCrossSigningSelf, event.AccountDataCrossSigningUser} {
		var err error
		if seeds[i], err = c.secret(ctx, kind, storage); err != nil {
			return nil, fmt.Errorf("%w: repair that with another client, by setting up cross-signing or secret storage anew", err)
		}
		if seeds[i] == nil {
			return nil, nil
		}
	}
	decoded := crypto.CrossSigningSeeds{MasterKey: seeds[0], SelfSigningKey: seeds[1], UserSigningKey: seeds[2]}
	keys, err := decoded.Decode()
	if err != nil {
		return nil, unusable{fmt.Errorf("the cross-signing keys in the account's secret storage are malformed: repair that with another client: %w", err)}
	}
	return &keys, nil
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

// signDevice signs the bot's device, and the account's master key by it, unless
// they are signed at the homeserver: it forgets signatures when the device is
// logged out.
func (c *crypt) signDevice(ctx context.Context, seeds *crypto.CrossSigningKeysCache, published published) error {
	if err := c.alone(func() error { return c.machine.ImportCrossSigningKeys(seeds.Seeds()) }); err != nil {
		return err
	}
	return c.sign(ctx, seeds, published)
}

// sign does that with the cross-signing keys that the machine has.
func (c *crypt) sign(ctx context.Context, seeds *crypto.CrossSigningKeysCache, published published) error {
	own, signer := c.machine.OwnIdentity(), seeds.SelfSigningKey.PublicKey()
	signed := func(what any, keyName string, key id.Ed25519) bool {
		ok, err := signatures.VerifySignatureJSON(what, own.UserID, keyName, key)
		return ok && err == nil
	}
	if !signed(published.device, signer.String(), signer) {
		if err := c.try(ctx, func(ctx context.Context) error { return c.machine.SignOwnDevice(ctx, own) }); err != nil {
			return fmt.Errorf("signing the bot's device: %w", err)
		}
	}
	if !signed(published.masterSigned, own.DeviceID.String(), own.SigningKey) {
		if err := c.try(ctx, c.machine.SignOwnMasterKey); err != nil {
			return fmt.Errorf("signing the account's master key: %w", err)
		}
	}
	return nil
}

// crossSigned tells whether one of the account's devices is signed with the
// account's cross-signing keys, if the bot has them.
func (c *crypt) crossSigned(ctx context.Context, device *id.Device) (bool, error) {
	keys := c.machine.CrossSigningKeys
	if keys == nil {
		return false, nil
	}
	return c.sessions.IsKeySignedBy(ctx, device.UserID, device.SigningKey, c.client.UserID, keys.SelfSigningKey.PublicKey())
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
