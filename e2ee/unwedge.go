//go:build goolm

package e2ee

import (
	"context"

	"maunium.net/go/mautrix/id"
)

// unwedge has the machine make a new Olm session with a device that sent what can't be
// decrypted, at most one an hour, so that what comes next can be:
// https://spec.matrix.org/v1.16/client-server-api/#recovering-from-undecryptable-messages
// It makes requests, so it runs in the background. Who sends junk in the name of devices
// that there are none of has the homeserver asked for no more than any sender has. When there
// is too much of that, the rest is dropped: the next thing that can't be decrypted tries again.
func (c *crypt) unwedge(_ context.Context, sender id.UserID, key id.SenderKey) {
	c.runSome(c.unwedging, func(ctx context.Context) {
		if device, err := c.deviceOf(ctx, sender, key); device == nil || err != nil {
			return
		}
		if is, err := c.sessions.isContested(ctx, key); is || err != nil {
			return // the true owner of the key makes one
		}
		defer c.judge(ctx, false)()
		c.machine.UnwedgeDevice(c.client.Log.WithContext(ctx), sender, key)
	})
}
