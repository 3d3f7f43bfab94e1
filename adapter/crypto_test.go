//go:build goolm

package adapter_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// encrypted returns the setup of a bot with encryption.
func encrypted(t testing.TB, s setup) setup {
	t.Helper()
	s.user = register(t)
	store := filepath.Join(t.TempDir(), "keys")
	s.memory = append(s.memory, e2ee.Enable())
	s.config = func(conf *matrix.Config) {
		conf.StorePath, conf.StoreKey = store, "a passphrase"
		conf.UserID, conf.Password = s.user.UserID.String(), s.user.Password // which a homeserver wants for cross-signing keys
	}
	return s
}

// A peer is a person with keys of its own, who encrypts whatever it likes, and
// hands on its keys when it likes.
type peer struct {
	person
	machine *crypto.OlmMachine
}

func newPeer(t testing.TB) *peer {
	t.Helper()
	p := register(t)
	states := mautrix.NewMemoryStateStore()
	p.Client.StateStore = states
	machine := crypto.NewOlmMachine(p.Client, nil, crypto.NewMemoryStore(nil), states.(crypto.StateStore))
	require.NoError(t, machine.Load(t.Context()))
	require.NoError(t, machine.ShareKeys(t.Context(), -1))
	return &peer{p, machine}
}

// invite makes an encrypted room in which a bot is, and a key for it, which only the
// peer has.
func (p *peer) invite(t testing.TB, robot *bot) id.RoomID {
	t.Helper()
	room := p.newRoom(t, rig.Encrypted)
	_, err := p.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: robot.user.UserID})
	require.NoError(t, err)
	eventually(t, func() bool {
		joined, err := p.JoinedMembers(t.Context(), room)
		return err == nil && len(joined.Joined) == 2
	}, "the bot did not join")
	p.newKey(t, room)
	return room
}

// key returns the key that the peer encrypts with in a room.
func (p *peer) key(t testing.TB, room id.RoomID) *crypto.OutboundGroupSession {
	t.Helper()
	key, err := p.machine.CryptoStore.GetOutboundGroupSession(t.Context(), room)
	require.NoError(t, err)
	return key
}

// newKey makes a new key of the peer for a room, and gives it to nobody.
func (p *peer) newKey(t testing.TB, room id.RoomID) {
	t.Helper()
	require.NoError(t, p.machine.CryptoStore.RemoveOutboundGroupSession(t.Context(), room))
	require.NoError(t, p.machine.ShareGroupSession(t.Context(), room, nil))
	p.key(t, room).ShareContent() // which keeps it as it was before the first message
}

// giveKey gives a bot the peer's key for a room.
func (p *peer) giveKey(t testing.TB, room id.RoomID, robot *bot) {
	t.Helper()
	p.key(t, room).Shared = false
	require.NoError(t, p.machine.ShareGroupSession(t.Context(), room, []id.UserID{robot.user.UserID}))
}

// encrypt sends what is encrypted with the room's key.
func (p *peer) encrypt(t testing.TB, room id.RoomID, plaintext string) id.EventID {
	t.Helper()
	ciphertext, err := p.key(t, room).Encrypt([]byte(plaintext))
	require.NoError(t, err)
	return p.put(t, room, p.key(t, room).ID(), ciphertext)
}

// junk sends what no key decrypts.
func (p *peer) junk(t testing.TB, room id.RoomID) id.EventID {
	t.Helper()
	random := make([]byte, 32)
	_, _ = rand.Read(random)
	encoded := base64.RawStdEncoding.EncodeToString(random)
	return p.put(t, room, id.SessionID(encoded), []byte(strings.Repeat(encoded, 3)))
}

func (p *peer) put(t testing.TB, room id.RoomID, session id.SessionID, ciphertext []byte) id.EventID {
	t.Helper()
	sent, err := p.SendMessageEvent(t.Context(), room, event.EventEncrypted, &event.EncryptedEventContent{
		Algorithm: id.AlgorithmMegolmV1, SessionID: session, MegolmCiphertext: ciphertext,
	}, mautrix.ReqSendEvent{DontEncrypt: true})
	require.NoError(t, err)
	return sent.EventID
}

// plaintext returns an event as it is encrypted.
func plaintext(t testing.TB, room id.RoomID, eventType, content string) string {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"room_id": room, "type": eventType, "content": json.RawMessage(content)})
	require.NoError(t, err)
	return string(raw)
}

// text returns a message as it is encrypted.
func text(t testing.TB, room id.RoomID, body string) string {
	t.Helper()
	content, err := json.Marshal(&event.MessageEventContent{MsgType: event.MsgText, Body: body})
	require.NoError(t, err)
	return plaintext(t, room, "m.room.message", string(content))
}
