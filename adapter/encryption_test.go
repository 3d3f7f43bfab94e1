package adapter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// keyless is encryption for which no key comes.
type keyless struct {
	mautrix.CryptoHelper
	waited []id.SessionID
}

func (k *keyless) WaitForSession(_ context.Context, _ id.RoomID, _ id.SenderKey, session id.SessionID, _ time.Duration) bool {
	k.waited = append(k.waited, session)
	return false
}

func (k *keyless) Decrypt(context.Context, *event.Event) (*event.Event, error) {
	return nil, errors.New("no key")
}

// A key that does not come is waited for once, however many do not, and none is
// waited for to read a message that was redacted.
func TestKeysThatDoNotCome(t *testing.T) {
	client, err := mautrix.NewClient("https://example.org", "@bot:x", "token")
	require.NoError(t, err)
	crypto := &keyless{}
	client.Crypto = crypto
	log, said := test.NewNullLogger()
	log.SetLevel(logrus.WarnLevel)
	s := session.New(client, true)
	s.Options = session.Options{Log: log}
	a := &adapter{session: s, client: client, ctx: t.Context()}
	r := &room{id: "!r:x"}
	encrypted := func(content string) *event.Event {
		return &event.Event{Type: event.EventEncrypted, Sender: "@a:x", RoomID: r.id, Content: event.Content{VeryRaw: json.RawMessage(content)}}
	}
	for range 3 {
		for _, session := range []string{"alice's", "bob's"} {
			a.receive(r, encrypted(fmt.Sprintf(`{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":"x","session_id":%q}`, session)))
		}
	}
	require.Equal(t, []id.SessionID{"alice's", "bob's"}, crypto.waited)
	require.Len(t, said.AllEntries(), 6)

	said.Reset()
	a.receive(r, encrypted(`{}`))
	client.Crypto = nil
	a.receive(r, encrypted(`{}`))
	require.Len(t, crypto.waited, 2)
	require.Empty(t, said.AllEntries())
}
