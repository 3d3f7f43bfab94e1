//go:build goolm

package e2ee

import (
	"context"
	"errors"
	"time"
)

// With a device that is logged out, as somebody does who logs out everywhere, the homeserver
// forgets its keys and its signature. Once the bot is logged in again as this device, others
// would send it no key without them.

// LoggedInAgain implements bridge.Crypto.
func (c *crypt) LoggedInAgain() {
	c.logouts.Add(1)
	if c.started.Load() {
		c.run(c.publishAgain)
	}
}

// publishAgain sees to it that the homeserver has the device's keys again after it has
// logged the device out. When it returns they are there, or it will be tried again.
func (c *crypt) publishAgain(ctx context.Context) {
	if c.published.Load() == c.logouts.Load() {
		return
	}
	c.publishing.Lock()
	defer c.publishing.Unlock()
	logouts := c.logouts.Load()
	if c.published.Load() == logouts || time.Now().Before(c.againAt) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := c.publishDevice(ctx)
	if err == nil {
		err = c.signAgain(ctx)
	}
	if err == nil && c.unsent {
		err = c.publishFallback(ctx)
	}
	switch {
	case err == nil:
		c.published.Store(logouts)
	case errors.As(err, new(unusable)): // another attempt would fail as well
		c.published.Store(logouts)
		c.log.WithError(err).Error("The homeserver forgot the keys of the bot's device when it logged the bot out, and they could not be published and signed again: others may not encrypt for the bot any more")
	case ctx.Err() != context.Canceled:
		c.log.WithError(err).Warn("Could not publish the keys of the bot's device, which the homeserver forgot when it logged the bot out; it will be tried again, and until then others may not encrypt for the bot")
		c.againAt = time.Now().Add(publishPause)
	}
}

// signAgain signs the device with the account's cross-signing keys, if the bot has them.
func (c *crypt) signAgain(ctx context.Context) error {
	seeds := c.machine.CrossSigningKeys
	if seeds == nil {
		return nil
	}
	published, err := c.publishedKeys(ctx)
	if err != nil {
		return err
	}
	if published.master != seeds.PublicKeys().MasterKey {
		return unusable{errors.New("the account's cross-signing keys were replaced, and the bot's device is not signed with the new ones: set recovery_key to the account's new recovery key, and start the bot again")}
	}
	return c.sign(ctx, seeds, published)
}
