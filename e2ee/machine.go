//go:build goolm

package e2ee

import (
	"net/http"
	"net/url"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// newMachine returns mautrix's machine over a device's key store. It can make no requests until
// equip has had it make them.
func (c *crypt) newMachine(user id.UserID, device id.DeviceID, states states) *crypto.OlmMachine {
	client := &mautrix.Client{
		HomeserverURL: &url.URL{}, // by which a request fails before it is made
		UserID:        user,
		DeviceID:      device,
		UserAgent:     c.client.UserAgent,
		Log:           session.ClientLog(c.log),
	}
	machine := crypto.NewOlmMachine(client, &client.Log, c.sessions, states)
	machine.SetBackgroundCtx(c.ctx)
	machine.DisableDecryptKeyFetching = true // decrypt.go asks for what it needs
	machine.DisableRatchetTracking = true
	// A message of which a part has another type than it should still says the rest.
	machine.IgnorePostDecryptionParseErrors = true
	machine.NeedsUnwedgeCallback = c.unwedge
	return machine
}

// equip has the machine make requests as the bot is logged in.
//
// It makes requests of its own accord, for which it sets no deadline, and holds
// locks meanwhile that both sync and the next write wait for. So its client
// gives up on each.
func (c *crypt) equip() {
	bounded := *c.client.Client
	bounded.Timeout = max(requestTimeout, c.conf.Timeout/3)
	if bounded.Transport == nil {
		bounded.Transport = http.DefaultTransport
	}
	bounded.Transport = claims{bounded.Transport, c.sessions.twins}
	c.judging.Lock() // who judges may ask for keys
	defer c.judging.Unlock()
	c.machine.Client.HomeserverURL = c.client.HomeserverURL
	c.machine.Client.AccessToken = c.client.AccessToken // the transport has the present one
	c.machine.Client.Client = &bounded
}
