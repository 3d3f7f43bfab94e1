//go:build goolm

package e2ee

import (
	"context"
	"crypto/rand"
	"errors"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
)

// A start may go on with the Olm sessions of the last one only if nobody has used them since
// they were last written: a store that was put back from a copy would encrypt with them from
// the same place twice. So a bot that ends in good order leaves the same random name in the
// store and in the account's data at the homeserver, and the next start takes both away
// before it uses the sessions. A copy that is made meanwhile and starts later finds another
// name there, or none; one that is made while the bot runs has none itself.

// restName is the name of the secret in the store.
const restName id.Secret = "dev.joe.rest"

// A rest is what stands in the account's data, for each device under a type of its own.
type rest struct {
	Name string `json:"name,omitempty"`
}

func (c *crypt) restType() string { return string(restName) + "." + c.client.DeviceID.String() }

// sleep lets the next start go on with the Olm sessions. From here on nothing is encrypted
// with them. If it fails, the next start makes new ones.
func (c *crypt) sleep() {
	if !c.sessions.end() {
		return
	}
	ctx, cancel := c.session.Parting(min(requestTimeout, c.conf.Timeout/3))
	defer cancel()
	name := rand.Text()
	err := c.saveSecret(ctx, restName, []byte(name))
	if err == nil {
		err = c.client.SetAccountData(mautrix.WithMaxRetries(ctx, 0), c.restType(), rest{name})
	}
	if err != nil {
		c.log.WithError(err).Debug("Could not note that the bot ends in good order; the next start makes new Olm sessions with all devices that it sends keys to")
	}
}

// wake says whether the Olm sessions of the last start may be used: whether this store is the
// one with which the bot last ended in good order. A second call says no.
func (c *crypt) wake(ctx context.Context) (bool, error) {
	name, err := c.loadSecret(ctx, restName)
	if err != nil || len(name) == 0 {
		return false, err
	}
	if err := c.sessions.DeleteSecret(ctx, restName); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var found rest
	err = c.try(ctx, func(ctx context.Context) error { return c.client.GetAccountData(ctx, c.restType(), &found) })
	if err == nil && found.Name == string(name) {
		err = c.try(ctx, func(ctx context.Context) error { return c.client.SetAccountData(ctx, c.restType(), rest{}) })
		if err == nil {
			return true, nil
		}
	}
	if err != nil && !errors.Is(err, mautrix.MNotFound) {
		c.log.WithError(err).Debug("Could not find out whether the key store is the one that the bot last used; it makes new Olm sessions with all devices that it sends keys to")
	}
	return false, nil
}
