//go:build goolm

package e2ee

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// Whatever a member of a room encrypts, and whatever stands beside it: it is an error, or
// what was encrypted, for this room.
func FuzzDecrypted(f *testing.F) {
	for _, plaintext := range []string{
		`null`, `[]`, `"x"`, `5`, `{}`, `{"room_id":"!room:example.org"}`,
		`{"room_id":"!room:example.org","type":"m.room.message","content":{"msgtype":"m.text","body":"x"}}`,
		`{"room_id":"!room:example.org","type":"dev.opsdroid.database","content":{"key":1}}`,
		`{"room_id":"!room:example.org","type":"m.room.message","content":{"body":5,"m.mentions":7}}`,
		`{"room_id":"!room:example.org","type":"m.room.message","content":null}`,
		`{"room_id":"!room:example.org","type":null,"content":{}}`,
	} {
		for _, beside := range []string{``, `null`, `5`, `{"rel_type":"m.thread","event_id":"$x"}`} {
			f.Add([]byte(plaintext), beside)
		}
	}
	c, _ := detached(f)
	outbound := sharesRoomKey(f, c)
	n := 0
	f.Fuzz(func(t *testing.T, plaintext []byte, beside string) {
		ciphertext, err := outbound.Internal.Encrypt(plaintext)
		if err != nil {
			return // there is nothing to encrypt
		}
		content := map[string]any{"algorithm": id.AlgorithmMegolmV1, "session_id": outbound.ID(), "ciphertext": string(ciphertext)}
		if json.Valid([]byte(beside)) {
			content["m.relates_to"] = json.RawMessage(beside)
		}
		raw, err := json.Marshal(content)
		require.NoError(t, err)
		n++
		for _, message := range []bool{false, true} {
			evt := &event.Event{Type: event.EventEncrypted, Sender: fuzzPeer, RoomID: fuzzRoom, ID: id.EventID(fmt.Sprint("$", n)), Content: event.Content{VeryRaw: raw}}
			decrypted, err := c.decrypt(t.Context(), evt, message)
			if err != nil {
				continue
			}
			var want struct {
				RoomID  id.RoomID `json:"room_id"`
				Type    string
				Content json.RawMessage
			}
			require.NoError(t, json.Unmarshal(plaintext, &want))
			require.Equal(t, fuzzRoom, want.RoomID)
			require.Equal(t, want.Type, decrypted.Type.Type)
			require.Equal(t, fuzzPeer, decrypted.Sender)
			if !message {
				require.Equal(t, string(want.Content), string(decrypted.Content.VeryRaw))
			}
		}
	})
}

// Whatever is sent to the bot's device, encrypted or not, a key that comes with it, after it, arrives.
func FuzzSentToTheDevice(f *testing.F) {
	for _, text := range []string{`null`, `[]`, `5`, `{}`, `{"type":"m.room_key","content":null}`} {
		f.Add([]byte(text), "", 0)
		f.Add([]byte(text), "AwoA", 1)
	}
	c, _ := detached(f)
	p := newCorrespondent(f, c)
	f.Fuzz(func(t *testing.T, text []byte, body string, kind int) {
		key, sessionID := p.shares(t)
		var response mautrix.RespSync
		response.DeviceOTKCount.SignedCurve25519 = enoughKeys
		response.ToDevice.Events = []*event.Event{
			p.encrypts(text),
			p.says(`"type":"m.room_key","content":` + string(text)),
			p.says(`"type":"m.forwarded_room_key","content":` + string(text)),
			p.says(`"type":"m.secret.send","content":` + string(text)),
			p.says(`"sender_device_keys":` + string(text) + `,"type":"m.dummy","content":{}`),
			plainly("m.room.encrypted", text), plainly("m.room_key.withheld", text), plainly("m.secret.request", text),
			p.sends(kind, body),
			key,
		}
		c.process(t.Context(), &response, "")
		stored, err := c.sessions.GetGroupSession(t.Context(), fuzzRoom, sessionID)
		require.NoError(t, err)
		require.NotNil(t, stored)
	})
}
