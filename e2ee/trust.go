//go:build goolm

package e2ee

import (
	"context"

	"maunium.net/go/mautrix/id"
)

// judge is held while the machine may judge devices, and is let go by the function that
// it returns. mautrix keeps the account's public cross-signing keys in the machine, which
// guards them by no lock: where it asks for the account's own devices it forgets them, and
// where it judges a device it gets them again. So who may ask for these is alone.
func (c *crypt) judge(ctx context.Context, alone bool) (done func()) {
	if !alone {
		c.judging.RLock()
		return c.judging.RUnlock
	}
	c.judging.Lock()
	return func() {
		// So that nobody who is not alone has to; what fails is tried again there.
		_, _ = c.machine.GetOwnCrossSigningPublicKeys(ctx)
		c.judging.Unlock()
	}
}

// alone does what changes the machine while nobody judges.
func (c *crypt) alone(do func() error) error {
	c.judging.Lock()
	defer c.judging.Unlock()
	return do()
}

// newDevice says whether a device is one of the account's that the key store does not know,
// so that the machine asks for it.
func (c *crypt) newDevice(ctx context.Context, user id.UserID, device id.DeviceID) bool {
	if user != c.client.UserID {
		return false
	}
	known, err := c.sessions.GetDevice(ctx, user, device)
	return known == nil || err != nil
}

// newSender says the same of the device that has a key.
func (c *crypt) newSender(ctx context.Context, user id.UserID, key id.SenderKey) bool {
	if user != c.client.UserID {
		return false
	}
	known, err := c.sessions.FindDeviceByKey(ctx, user, key)
	return known == nil || err != nil
}
