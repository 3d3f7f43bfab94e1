//go:build goolm

package e2ee

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// What is wrong with a part of a message does not take the rest away.
func TestMessageWithPartsOfAnotherType(t *testing.T) {
	c, _ := detached(t)
	outbound := sharesRoomKey(t, c)
	ciphertext, err := outbound.Internal.Encrypt([]byte(`{"room_id":"!room:example.org","type":"m.room.message","content":{"m.mentions":7,"format":[],"msgtype":"m.text","body":"hello"}}`))
	require.NoError(t, err)
	raw, err := json.Marshal(map[string]any{"algorithm": id.AlgorithmMegolmV1, "session_id": outbound.ID(), "ciphertext": string(ciphertext)})
	require.NoError(t, err)
	evt := &event.Event{Type: event.EventEncrypted, Sender: fuzzPeer, RoomID: fuzzRoom, ID: "$1", Content: event.Content{VeryRaw: raw}}
	decrypted, err := helper{c}.Decrypt(t.Context(), evt)
	require.NoError(t, err)
	require.Equal(t, "hello", decrypted.Content.AsMessage().Body)
}
