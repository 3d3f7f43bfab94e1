//go:build goolm

package e2ee

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/olm"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

const (
	fuzzRoom = id.RoomID("!room:example.org")
	fuzzPeer = id.UserID("@peer:example.org")
)

// offline has every request fail.
type offline struct{}

func (offline) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("offline") }

// detached is an encryption without a homeserver.
func detached(t testing.TB) (*crypt, *test.Hook) {
	t.Helper()
	log, said := test.NewNullLogger()
	store, err := openStore(t.TempDir(), "", log)
	require.NoError(t, err)
	c := &crypt{log: log, store: store, asked: make(map[string]time.Time), wanted: make(map[id.SessionID]id.RoomID)}
	c.unwedging, c.answering = make(tickets, maxUnwedging), make(tickets, maxAnswering)
	c.waiters = make(waiters)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	t.Cleanup(func() { c.cancel(); c.tasks.Wait(); require.NoError(t, store.close()) })
	c.client, err = mautrix.NewClient("https://example.org", "@bot:example.org", "token")
	require.NoError(t, err)
	c.client.DeviceID, c.client.Client = "BOT", &http.Client{Transport: offline{}}
	c.session = session.New(c.client, true)
	t.Cleanup(c.session.Close)
	c.encrypted = newEncryptedRooms()
	require.NoError(t, c.load(t.Context(), c.client.UserID, c.client.DeviceID))
	c.equip()
	return c, said
}

// sharesRoomKey returns a session of the peer's that the bot has, of a device that it knows.
func sharesRoomKey(t testing.TB, c *crypt) *crypto.OutboundGroupSession {
	t.Helper()
	device := &id.Device{UserID: fuzzPeer, DeviceID: "PEER", IdentityKey: "curve", SigningKey: "ed"}
	require.NoError(t, c.sessions.PutDevice(t.Context(), fuzzPeer, device))
	outbound, err := crypto.NewOutboundGroupSession(fuzzRoom, nil, nil)
	require.NoError(t, err)
	inbound, err := crypto.NewInboundGroupSession(device.IdentityKey, device.SigningKey, fuzzRoom, outbound.Internal.Key(), 0, 0, nil, false)
	require.NoError(t, err)
	inbound.SourceUser = fuzzPeer
	require.NoError(t, c.sessions.PutGroupSession(t.Context(), inbound))
	return outbound
}

// A correspondent is a device of another user, which has an Olm session with the bot's.
type correspondent struct {
	signing  id.Ed25519
	identity id.IdentityKey
	session  olm.Session
	to       *id.Device
}

func newCorrespondent(t testing.TB, c *crypt) *correspondent {
	t.Helper()
	c.machine.GetAccount().Internal.GenOneTimeKeys(1)
	keys, err := c.machine.GetAccount().Internal.OneTimeKeys()
	require.NoError(t, err)
	account, err := olm.NewAccount()
	require.NoError(t, err)
	p := &correspondent{to: c.machine.OwnIdentity()}
	p.signing, p.identity, err = account.IdentityKeys()
	require.NoError(t, err)
	for _, key := range keys {
		p.session, err = account.NewOutboundSession(p.to.IdentityKey, key)
		require.NoError(t, err)
	}
	return p
}

// sends returns an event that was sent to the bot's device, with any ciphertext.
func (p *correspondent) sends(kind any, body string) *event.Event {
	raw, _ := json.Marshal(map[string]any{"algorithm": id.AlgorithmOlmV1, "sender_key": p.identity,
		"ciphertext": map[string]any{p.to.IdentityKey.String(): map[string]any{"type": kind, "body": body}}})
	return plainly(event.ToDeviceEncrypted.Type, raw)
}

// encrypts returns one with any plaintext.
func (p *correspondent) encrypts(plaintext []byte) *event.Event {
	kind, body, err := p.session.Encrypt(plaintext)
	if err != nil { // there is nothing to encrypt
		return p.sends(0, "")
	}
	return p.sends(kind, string(body))
}

// says returns one whose plaintext is an event with these members.
func (p *correspondent) says(members string) *event.Event {
	return p.encrypts(fmt.Appendf(nil, `{"sender":%q,"recipient":%q,"recipient_keys":{"ed25519":%q},"keys":{"ed25519":%q},%s}`,
		fuzzPeer, p.to.UserID, p.to.SigningKey, p.signing, members))
}

// shares returns one that brings a new session, and the session's ID.
func (p *correspondent) shares(t testing.TB) (*event.Event, id.SessionID) {
	t.Helper()
	outbound, err := crypto.NewOutboundGroupSession(fuzzRoom, nil, nil)
	require.NoError(t, err)
	return p.says(fmt.Sprintf(`"type":"m.room_key","content":{"algorithm":"m.megolm.v1.aes-sha2","room_id":%q,"session_id":%q,"session_key":%q}`,
		fuzzRoom, outbound.ID(), outbound.Internal.Key())), outbound.ID()
}

// plainly returns an event that was sent to the device as it is.
func plainly(eventType string, content []byte) *event.Event {
	evt := &event.Event{Sender: fuzzPeer, Type: event.Type{Type: eventType}, Content: event.Content{VeryRaw: content}}
	_ = json.Unmarshal(content, &evt.Content.Raw)
	return evt
}
