//go:build goolm

package e2ee

import (
	"net/http"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
)

// newMachine returns mautrix's machine over the key store.
//
// It makes requests of its own accord, for which it sets no deadline, and holds
// locks meanwhile that both sync and the next write wait for. So its client
// gives up on each.
func (c *crypt) newMachine(states mautrix.StateStore) *crypto.OlmMachine {
	bounded := *c.client.Client
	bounded.Timeout = max(requestTimeout, c.conf.Timeout/3)
	if bounded.Transport == nil {
		bounded.Transport = http.DefaultTransport
	}
	bounded.Transport = claims{bounded.Transport, c.sessions.twins}
	client := &mautrix.Client{
		HomeserverURL: c.client.HomeserverURL,
		UserID:        c.client.UserID,
		DeviceID:      c.client.DeviceID,
		AccessToken:   c.client.AccessToken, // the transport has the present one
		UserAgent:     c.client.UserAgent,
		Client:        &bounded,
		Log:           c.client.Log,
	}
	machine := crypto.NewOlmMachine(client, &client.Log, c.sessions, states.(crypto.StateStore))
	machine.SetBackgroundCtx(c.ctx)
	machine.DisableDecryptKeyFetching = true // decrypt.go asks for what it needs
	machine.DisableRatchetTracking = true
	// A message of which a part has another type than it should still says the rest.
	machine.IgnorePostDecryptionParseErrors = true
	machine.NeedsUnwedgeCallback = c.unwedge
	return machine
}
