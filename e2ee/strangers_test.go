//go:build goolm

package e2ee

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

const mallory = id.UserID("@mallory:evil.org")

// roundTrip is a homeserver.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// junk is what can't be decrypted, as if from the device with the key.
func junk(c *crypt, sender id.UserID, key id.SenderKey) *event.Event {
	evt := plainly(event.ToDeviceEncrypted.Type, fmt.Appendf(nil, `{"algorithm":"m.olm.v1.curve25519-aes-sha2","sender_key":%q,"ciphertext":{%q:{"type":1,"body":"AAAA"}}}`,
		key, c.machine.OwnIdentity().IdentityKey))
	evt.Sender = sender
	return evt
}

// Strangers whose homeserver does not answer neither keep the bot from finding others' devices
// nor have it do more and more in the background.
func TestStrangersWhoseHomeserverHangs(t *testing.T) {
	c, _ := detached(t)
	hanging := make(chan struct{}, 100)
	hang := roundTrip(func(r *http.Request) (*http.Response, error) {
		if asksFor(r, "evil.org") {
			hanging <- struct{}{}
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		return says(r, `{"device_keys":{}}`)
	})
	c.machine.Client.Client.Transport = hang
	for n := range 3 * maxUnwedging {
		c.processEvent(t.Context(), junk(c, id.UserID(fmt.Sprintf("@x%d:evil.org", n)), id.SenderKey(fmt.Sprint("k", n))))
	}
	for range maxUnwedging {
		select {
		case <-hanging:
		case <-time.After(2 * time.Second):
			t.Fatal("one stranger holds up others")
		}
	}
	require.Len(t, c.unwedging, maxUnwedging)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	found := make(chan error, 1)
	go func() { _, err := c.deviceOf(ctx, fuzzPeer, "newdevice"); found <- err }()
	select {
	case err := <-found:
		require.NoError(t, err)
	case <-ctx.Done():
		t.Fatal("others' devices are not found")
	}
	require.Empty(t, hanging, "more than the bound ask")
	// A request for a key from a device that nobody knows asks for nothing.
	for n := range 100 {
		evt := plainly(event.ToDeviceRoomKeyRequest.Type, fmt.Appendf(nil, `{"action":"request","requesting_device_id":"D%d","request_id":"x","body":{"algorithm":"m.megolm.v1.aes-sha2","room_id":%q,"session_id":"s"}}`, n, fuzzRoom))
		evt.Sender = id.UserID(fmt.Sprintf("@y%d:evil.org", n))
		require.True(t, c.answerRequest(t.Context(), evt))
	}
	c.cancel()
	c.tasks.Wait()
	require.Empty(t, hanging)
	require.Empty(t, c.unwedging)
}

// Whoever publishes a device with the identity key of somebody else's does not have the bot
// use a session with which only that device's owner is left out.
func TestTwinOfADevice(t *testing.T) {
	for name, first := range map[string]id.UserID{"the owner's is known first": fuzzPeer, "the twin is known first": mallory} {
		t.Run(name, func(t *testing.T) {
			c, _ := detached(t)
			_, err := c.sessions.DB.Exec(t.Context(), `CREATE TABLE matrix_memory_olm (sender_key TEXT PRIMARY KEY, session_id TEXT NOT NULL)`)
			require.NoError(t, err)
			twin, alice := crypto.NewOlmAccount(), crypto.NewOlmAccount()
			key := alice.IdentityKey()
			devices := map[id.UserID]*id.Device{
				fuzzPeer: {UserID: fuzzPeer, DeviceID: "D", IdentityKey: key, SigningKey: alice.SigningKey()},
				mallory:  {UserID: mallory, DeviceID: "D", IdentityKey: key, SigningKey: twin.SigningKey()},
			}
			know := func(user id.UserID) {
				require.NoError(t, c.sessions.PutDevices(t.Context(), user, map[id.DeviceID]*id.Device{"D": devices[user]}))
			}
			accounts := map[id.UserID]*crypto.OlmAccount{fuzzPeer: alice, mallory: twin}
			c.machine.Client.Client.Transport = claims{roundTrip(func(r *http.Request) (*http.Response, error) {
				var keys []string
				if strings.HasSuffix(r.URL.Path, "/keys/claim") {
					for user, account := range accounts {
						if asksFor(r, user.String()) {
							keys = append(keys, fmt.Sprintf(`%q:{"D":%s}`, user, oneTimeKey(t, account, user)))
						}
					}
				}
				return says(r, `{"one_time_keys":{`+strings.Join(keys, ",")+`}}`)
			}), c.sessions.twins}
			other := map[id.UserID]id.UserID{fuzzPeer: mallory, mallory: fuzzPeer}[first]
			know(first)
			c.processEvent(t.Context(), junk(c, mallory, key))
			c.tasks.Wait()
			know(other)

			// In a room with the owner.
			require.NoError(t, c.sessions.forgetUnproven(t.Context()))
			require.NoError(t, c.shareSession(t.Context(), fuzzRoom, []id.UserID{fuzzPeer}))
			require.True(t, opens(t, c, alice, key), "the owner is left out")

			// Junk in the twin's name, when the bot would make a new session because of it.
			_, err = c.sessions.DB.Exec(t.Context(), `UPDATE crypto_olm_session SET created_at = $1`, time.Now().Add(-2*crypto.MinUnwedgeInterval))
			require.NoError(t, err)
			c.processEvent(t.Context(), junk(c, mallory, key))
			c.tasks.Wait()
			require.True(t, opens(t, c, alice, key), "junk leaves the owner out")

			// In a room with the twin, and again in one with the owner.
			require.NoError(t, c.sessions.forgetUnproven(t.Context()))
			require.NoError(t, c.shareSession(t.Context(), "!b:example.org", []id.UserID{mallory}))
			require.NoError(t, c.sessions.forgetUnproven(t.Context()))
			require.NoError(t, c.shareSession(t.Context(), "!c:example.org", []id.UserID{fuzzPeer}))
			require.True(t, opens(t, c, alice, key), "the owner is left out")

			// In rooms with both, of which the answer may come in any order.
			for n := range 10 {
				require.NoError(t, c.sessions.forgetUnproven(t.Context()))
				require.NoError(t, c.shareSession(t.Context(), id.RoomID(fmt.Sprintf("!both%d:example.org", n)), []id.UserID{mallory, fuzzPeer}))
				require.Equal(t, first == fuzzPeer, opens(t, c, alice, key))
			}

			// Once the owner has written, nothing gets in the way any more.
			session, err := alice.Internal.NewOutboundSession(c.machine.OwnIdentity().IdentityKey, botKey(t, c))
			require.NoError(t, err)
			kind, body, err := session.Encrypt(fmt.Appendf(nil, `{"sender":%q,"recipient":%q,"recipient_keys":{"ed25519":%q},"keys":{"ed25519":%q},"type":"m.dummy","content":{}}`,
				fuzzPeer, c.client.UserID, c.machine.OwnIdentity().SigningKey, alice.SigningKey()))
			require.NoError(t, err)
			c.processEvent(t.Context(), plainly(event.ToDeviceEncrypted.Type, fmt.Appendf(nil, `{"algorithm":"m.olm.v1.curve25519-aes-sha2","sender_key":%q,"ciphertext":{%q:{"type":%d,"body":%q}}}`,
				key, c.machine.OwnIdentity().IdentityKey, kind, body)))
			for n := range 3 {
				c.processEvent(t.Context(), junk(c, mallory, key))
				c.tasks.Wait()
				require.NoError(t, c.sessions.forgetUnproven(t.Context()))
				require.NoError(t, c.shareSession(t.Context(), id.RoomID(fmt.Sprintf("!later%d:example.org", n)), []id.UserID{mallory, fuzzPeer}))
				latest, err := c.sessions.GetLatestSession(t.Context(), key)
				require.NoError(t, err)
				require.Equal(t, session.ID(), latest.ID())
			}
		})
	}
}

// oneTimeKey returns a new one-time key of an account as a homeserver hands it out.
func oneTimeKey(t testing.TB, account *crypto.OlmAccount, user id.UserID) string {
	t.Helper()
	account.Internal.GenOneTimeKeys(1)
	keys, err := account.Internal.OneTimeKeys()
	require.NoError(t, err)
	account.Internal.MarkKeysAsPublished()
	for keyID, key := range keys {
		signature, err := account.SignJSON(map[string]any{"key": key})
		require.NoError(t, err)
		return fmt.Sprintf(`{"signed_curve25519:%s":{"key":%q,"signatures":{%q:{"ed25519:D":%q}}}}`, keyID, key, user, signature)
	}
	return ""
}

// botKey returns a new one-time key of the bot's.
func botKey(t testing.TB, c *crypt) id.Curve25519 {
	t.Helper()
	account := c.machine.GetAccount().Internal
	account.GenOneTimeKeys(1)
	keys, err := account.OneTimeKeys()
	require.NoError(t, err)
	for _, key := range keys {
		return key
	}
	return ""
}

// opens says whether an account can decrypt what the bot would encrypt for a device.
func opens(t testing.TB, c *crypt, account *crypto.OlmAccount, key id.SenderKey) bool {
	t.Helper()
	session, err := c.sessions.GetLatestSession(t.Context(), key)
	require.NoError(t, err)
	if session == nil {
		return false
	}
	kind, body, err := session.Encrypt([]byte("{}"))
	require.NoError(t, err)
	inbound, err := account.NewInboundSessionFrom(c.machine.OwnIdentity().IdentityKey, string(body))
	if err != nil {
		return false
	}
	_, err = inbound.Decrypt(string(body), kind)
	return err == nil
}

// Who says that keys are withheld neither fills the store nor has messages taken as lost.
func TestWithheldByStrangers(t *testing.T) {
	c, _ := detached(t)
	require.NoError(t, c.encrypted.note(t.Context(), fuzzRoom))
	require.NoError(t, c.sessions.PutDevices(t.Context(), fuzzPeer, map[id.DeviceID]*id.Device{"D": {UserID: fuzzPeer, DeviceID: "D", IdentityKey: "curve", SigningKey: "ed"}}))
	require.NoError(t, c.sessions.PutDevices(t.Context(), mallory, map[id.DeviceID]*id.Device{"D": {UserID: mallory, DeviceID: "D", IdentityKey: "evil", SigningKey: "evil"}}))
	session := func(n int) string { return fmt.Sprintf("%043d", n) }
	withheld := func(sender id.UserID, room id.RoomID, session, key string) {
		evt := plainly(event.ToDeviceRoomKeyWithheld.Type, fmt.Appendf(nil, `{"algorithm":"m.megolm.v1.aes-sha2","room_id":%q,"session_id":%q,"sender_key":%q,"code":"m.blacklisted","reason":%q}`,
			room, session, key, strings.Repeat("x", 60000)))
		evt.Sender = sender
		c.processEvent(t.Context(), evt)
	}
	rows := func() (n, bytes int) {
		require.NoError(t, c.sessions.DB.QueryRow(t.Context(), `SELECT count(*), coalesce(sum(length(withheld_reason)), 0) FROM crypto_megolm_inbound_session`).Scan(&n, &bytes))
		return n, bytes
	}
	withheld(mallory, fuzzRoom, session(1), "curve") // in another's name
	withheld("@nobody:evil.org", fuzzRoom, session(1), "curve")
	withheld(fuzzPeer, "!other:example.org", session(1), "curve")
	withheld(fuzzPeer, fuzzRoom, "s", "curve")
	n, _ := rows()
	require.Zero(t, n)

	withheld(fuzzPeer, fuzzRoom, session(1), "curve")
	for i := range maxWithheld + 20 {
		withheld(mallory, fuzzRoom, session(2+i), "evil")
	}
	n, bytes := rows()
	require.Equal(t, maxWithheld+1, n)
	require.Equal(t, n*maxWithheldReason, bytes)

	read := func(sender id.UserID, session string) error {
		_, err := c.decrypt(t.Context(), &event.Event{Sender: sender, RoomID: fuzzRoom, Type: event.EventEncrypted, Content: event.Content{
			VeryRaw: fmt.Appendf(nil, `{"algorithm":"m.megolm.v1.aes-sha2","session_id":%q,"ciphertext":"AAAA"}`, session)}}, true)
		return err
	}
	require.ErrorIs(t, read(fuzzPeer, session(1)), crypto.ErrGroupSessionWithheld)
	last := session(maxWithheld + 21)
	require.ErrorIs(t, read(mallory, last), crypto.ErrGroupSessionWithheld)
	require.ErrorIs(t, read(fuzzPeer, last), crypto.ErrNoSessionFound)
	require.False(t, c.waitForSession(t.Context(), fuzzRoom, id.SessionID(last), 0))
}

// What strangers have asked and waited for does not pile up.
func TestWhatStrangersHaveAskedFor(t *testing.T) {
	c, _ := detached(t)
	for n := range maxAsked {
		c.asked[fmt.Sprint(n)] = time.Now().Add(-time.Second)
	}
	require.True(t, c.due("one more"))
	require.Len(t, c.asked, 1)

	for n := range maxWanted {
		c.wanted[id.SessionID(fmt.Sprint(n))] = fuzzRoom
	}
	c.ask(fuzzRoom, "one more")
	require.Len(t, c.wanted, maxWanted)
	require.Contains(t, c.wanted, id.SessionID("one more"))

	require.False(t, c.waitForSession(t.Context(), fuzzRoom, "invented", time.Millisecond))
	require.Empty(t, c.waiters)

	p := newCorrespondent(t, c)
	evt, sessionID := p.shares(t)
	c.wanted[sessionID] = fuzzRoom
	came := make(chan bool, 2)
	for range 2 {
		go func() { came <- c.waitForSession(t.Context(), fuzzRoom, sessionID, 3*time.Second) }()
	}
	c.processEvent(t.Context(), evt)
	require.True(t, <-came)
	require.True(t, <-came)
	require.NotContains(t, c.wanted, sessionID)
}

// says answers a request.
func says(r *http.Request, body string) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Request: r, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

// asksFor says whether something stands in a request.
func asksFor(r *http.Request, what string) bool {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return bytes.Contains(body, []byte(what))
}

// What mautrix does not bear while a key is shared is an error: it may happen on a goroutine
// that would end the process.
func TestSharingSurvivesWhatMautrixDoesNotBear(t *testing.T) {
	c, _ := detached(t)
	require.NoError(t, c.sessions.PutDevices(t.Context(), fuzzPeer, map[id.DeviceID]*id.Device{"D": {UserID: fuzzPeer, DeviceID: "D", IdentityKey: "curve", SigningKey: "ed"}}))
	c.machine.Client.Client.Transport = roundTrip(func(r *http.Request) (*http.Response, error) { // unfiltered
		return says(r, `{"one_time_keys":{"@peer:example.org":{"OTHER":{"signed_curve25519:AAAA":{"key":"x"}}}}}`)
	})
	require.ErrorContains(t, c.shareSession(t.Context(), fuzzRoom, []id.UserID{fuzzPeer}), "mautrix fails on it")
	session, err := c.sessions.GetOutboundGroupSession(t.Context(), fuzzRoom)
	require.NoError(t, err)
	require.Nil(t, session)
	c.judge(t.Context(), true)() // is free
}
