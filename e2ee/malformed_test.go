//go:build goolm

package e2ee_test

import (
	"encoding/json"
	"fmt"
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

// malformed returns plaintexts that are no event of a room, by what the error says of
// those that are none at all.
func malformed(room id.RoomID) map[string]string {
	value := func(members string) string { return fmt.Sprintf(`{"room_id":%q,%s}`, room, members) }
	return map[string]string{
		"null":             `null`,
		"a list":           `[]`,
		"a string":         `"x"`,
		"a number":         `5`,
		"nothing":          `{}`,
		"no JSON":          `{"room_id":`,
		"another room":     `{"room_id":"!elsewhere:xxx","type":"dev.opsdroid.database","content":{"key":1}}`,
		"only the room":    value(`"x":1`),
		"null content":     value(`"type":"dev.opsdroid.database","content":null`),
		"no content":       value(`"type":"dev.opsdroid.database"`),
		"null type":        value(`"type":null,"content":{}`),
		"number for type":  value(`"type":5,"content":{}`),
		"number inside":    value(`"type":"dev.opsdroid.database","content":5`),
		"list inside":      value(`"type":"dev.opsdroid.database","content":[{"key":1}]`),
		"deep":             value(`"type":"dev.opsdroid.database","content":` + strings.Repeat(`{"key":`, 5000) + `1` + strings.Repeat(`}`, 5000)),
		"deeper than JSON": value(`"type":"dev.opsdroid.database","content":` + strings.Repeat(`[`, 20000) + strings.Repeat(`]`, 20000)),
		"large":            value(`"type":"dev.opsdroid.database","content":{"other":"` + strings.Repeat("x", 45000) + `"}`),
		"wrong relation":   value(`"type":"m.room.message","content":{"msgtype":"m.text","body":"x","m.relates_to":[1]}`),
		"malformed state":  value(`"type":"m.room.power_levels","state_key":"","content":{"users":7}`),
	}
}

// encryptRaw encrypts any plaintext for a room and sends it.
func (p *peer) encryptRaw(t testing.TB, room id.RoomID, plaintext string) id.EventID {
	t.Helper()
	session, err := p.machine.CryptoStore.GetOutboundGroupSession(t.Context(), room)
	require.NoError(t, err)
	if session == nil || !session.Shared {
		p.sync(t)
		members, err := p.StateStore.GetRoomJoinedOrInvitedMembers(t.Context(), room)
		require.NoError(t, err)
		require.NoError(t, p.machine.ShareGroupSession(t.Context(), room, members))
		session, err = p.machine.CryptoStore.GetOutboundGroupSession(t.Context(), room)
		require.NoError(t, err)
	}
	ciphertext, err := session.Encrypt([]byte(plaintext))
	require.NoError(t, err)
	sent, err := p.SendMessageEvent(t.Context(), room, event.EventEncrypted, &event.EncryptedEventContent{
		Algorithm: id.AlgorithmMegolmV1, SessionID: session.ID(), MegolmCiphertext: ciphertext,
	}, mautrix.ReqSendEvent{DontEncrypt: true})
	require.NoError(t, err)
	return sent.EventID
}

// A member may encrypt what is no event. Whoever may write the memory may point at it: then
// that key can't be read, and the others can, also by a bot that starts anew, and reads ahead.
func TestMalformedValues(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	raise(t, bot, room, other.UserID)
	conf := bot.config(t, room)
	memory := open(t, conf)
	require.NoError(t, memory.Set("a", []byte(`1`)))
	require.NoError(t, memory.Set("b", []byte(`2`)))
	state := make(map[string]map[string]id.EventID)
	for key, eventID := range bot.pointers(t, room) {
		state[key] = map[string]id.EventID{"encrypted_val": eventID}
	}
	for name, plaintext := range malformed(room) {
		state[name] = map[string]id.EventID{"encrypted_val": other.encryptRaw(t, room, plaintext)}
	}
	state["fine"] = map[string]id.EventID{"encrypted_val": other.encryptRaw(t, room, fmt.Sprintf(`{"room_id":%q,"type":%q,"content":{"fine":3}}`, room, rig.MemoryType.Type))}
	text, err := json.Marshal(state)
	require.NoError(t, err)
	other.put(t, room, string(text))

	requireRead := func(memory *matrix.Memory) {
		t.Helper()
		eventually(t, func() bool { keys, err := memory.Keys(); return err == nil && len(keys) == len(state) }, "the memory does not see what was written")
		eventually(t, func() bool { _, ok, err := memory.Get("fine"); return ok && err == nil }, "what another wrote can't be read")
		for name := range malformed(room) {
			_, ok, err := memory.Get(name)
			require.False(t, ok, name)
			require.Error(t, err, name)
			require.NotContains(t, err.Error(), "fault of this program", name)
			require.NotContains(t, err.Error(), "missing", name)
			require.Less(t, len(err.Error()), 1000, name)
		}
		requireUndecryptable(t, memory, room, "null", state["null"]["encrypted_val"], "malformed")
		requireUndecryptable(t, memory, room, "another room", state["another room"]["encrypted_val"], "room")
		rig.Has(t, memory, "a", "1")
		rig.Has(t, memory, "b", "2")
		rig.Has(t, memory, "fine", "3")
	}
	requireRead(memory)
	require.NoError(t, memory.Close())
	requireRead(open(t, conf))
}

// sendOlm encrypts any plaintext for a device, and sends it.
func (p *peer) sendOlm(t testing.TB, to *id.Device, plaintext string) {
	t.Helper()
	session, err := p.machine.CryptoStore.GetLatestSession(t.Context(), to.IdentityKey)
	require.NoError(t, err)
	kind, body, err := session.Encrypt([]byte(plaintext))
	require.NoError(t, err)
	p.sendToDevice(t, to, &event.EncryptedEventContent{
		Algorithm: id.AlgorithmOlmV1, SenderKey: p.machine.OwnIdentity().IdentityKey,
		OlmCiphertext: event.OlmCiphertexts{to.IdentityKey: {Type: kind, Body: string(body)}},
	})
}

func (p *peer) sendToDevice(t testing.TB, to *id.Device, content any) {
	t.Helper()
	_, err := p.SendToDevice(t.Context(), event.ToDeviceEncrypted, &mautrix.ReqSendToDevice{
		Messages: map[id.UserID]map[id.DeviceID]*event.Content{to.UserID: {to.DeviceID: {Parsed: content}}}})
	require.NoError(t, err)
}

// What others send to the bot's device can be anything, too. A key that comes after it arrives.
func TestMalformedKeys(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	log, kept := rig.KeepLog()
	memory := matrix.New(bot.config(t, room), matrix.WithLogger(log), e2ee.Enable())
	require.NoError(t, memory.Open(t.Context()))
	defer memory.Close()
	device := other.deviceOf(t, memory)
	other.shareOwn(t, device, room) // makes an Olm session
	own := other.machine.OwnIdentity()
	addressed := func(members string) string {
		return fmt.Sprintf(`{"sender":%q,"recipient":%q,"recipient_keys":{"ed25519":%q},"keys":{"ed25519":%q},%s}`,
			other.UserID, device.UserID, device.SigningKey, own.SigningKey, members)
	}
	outbound, err := crypto.NewOutboundGroupSession(room, nil, nil)
	require.NoError(t, err)
	for _, plaintext := range []string{
		`null`, `[]`, `"x"`, `5`, `{}`, strings.Repeat(`[`, 20000),
		addressed(`"type":"m.room_key"`),
		addressed(`"type":"m.room_key","content":null`),
		addressed(`"type":"m.room_key","content":5`),
		addressed(`"type":null,"content":{}`),
		addressed(`"type":"m.room_key","content":{"algorithm":"m.megolm.v1.aes-sha2"}`),
		addressed(fmt.Sprintf(`"type":"m.room_key","content":{"algorithm":"m.megolm.v1.aes-sha2","room_id":%q,"session_id":%q,"session_key":"AQ"}`, room, outbound.ID())),
		addressed(fmt.Sprintf(`"type":"m.room_key","content":{"algorithm":"m.megolm.v1.aes-sha2","room_id":%q,"session_id":%q,"session_key":%q}`, room, outbound.ID(), outbound.Internal.Key()[:40])),
		addressed(`"type":"m.forwarded_room_key","content":{}`),
		addressed(fmt.Sprintf(`"type":"m.forwarded_room_key","content":{"algorithm":"m.megolm.v1.aes-sha2","room_id":%q,"session_id":"x","session_key":"AQ","forwarding_curve25519_key_chain":null}`, room)),
		addressed(`"type":"m.secret.send","content":{"request_id":"x","secret":5}`),
		addressed(`"type":"m.secret.send","content":{}`),
		addressed(`"type":"io.element.msc4268.room_key_bundle","content":{}`),
		addressed(`"sender_device_keys":{},"type":"m.room_key","content":{}`),
		addressed(`"sender_device_keys":{"user_id":5},"type":"m.room_key","content":{}`),
	} {
		other.sendOlm(t, device, plaintext)
	}
	for _, body := range []string{"", "A", "!", "AwoA", "AwogAAAA", strings.Repeat("A", 5000)} {
		for kind := range 3 {
			other.sendToDevice(t, device, map[string]any{
				"algorithm": id.AlgorithmOlmV1, "sender_key": own.IdentityKey,
				"ciphertext": map[string]any{device.IdentityKey.String(): map[string]any{"type": kind, "body": body}},
			})
		}
	}
	for _, content := range []any{nil, map[string]any{}, map[string]any{"algorithm": 5}, map[string]any{"algorithm": id.AlgorithmOlmV1, "ciphertext": "x"}} {
		other.sendToDevice(t, device, content)
	}
	marker := other.shareOwn(t, device, room)
	require.True(t, memory.Client().Crypto.WaitForSession(t.Context(), room, "", marker, bound), "no key arrives any more")
	require.NotContains(t, kept.String(), "fault in this program")
	require.NotContains(t, kept.String(), "handler failed")
}
