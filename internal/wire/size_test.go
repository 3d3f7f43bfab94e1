package wire

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestCanonicalSize(t *testing.T) {
	require.Equal(t, len(`{"a":"<é\n","b":[1]}`), CanonicalSize(json.RawMessage(` { "b": [ 1 ], "a": "\u003c\u00e9\u000a" } `)))
	require.Equal(t, 4, CanonicalSize(json.RawMessage(`nope`)))
}

func TestCanonicalSizeOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		requireCanonicalSize(t, []byte(anyJSON(4).Draw(t, "content")))
	})
}

// requireCanonicalSize compares with an independent canonicalisation, where
// canonical JSON says what is right.
func requireCanonicalSize(t require.TestingT, content []byte) {
	s, ok := scan(content, true)
	if !ok || s.duplicate || s.surrogate {
		return
	}
	value, err := parse(content)
	require.NoError(t, err)
	require.Equal(t, canonical(value), string(s.out))
	require.Equal(t, len(canonical(value)), CanonicalSize(content))
}

func TestEventLimit(t *testing.T) {
	limit := EventLimit("!room:localhost", "@bot:localhost", "dev.opsdroid.database", "")
	require.Equal(t, limit-len("ab"), EventLimit("!room:localhost", "@bot:localhost", "dev.opsdroid.database", "ab"))
	require.Equal(t, limit-len(`\"\n`), EventLimit("!room:localhost", "@bot:localhost", "dev.opsdroid.database", "\"\n"))
	require.Equal(t, limit-3*len("more"), EventLimit("!room:localhost", "@bot:morelocalhost", "dev.opsdroid.database", ""),
		"the sender's server is in sender, origin and signatures")

	// The largest event that a homeserver makes of content at the limit just fits.
	references := make([]string, 30)
	for i := range references {
		references[i] = "$" + strings.Repeat("x", 43)
	}
	content := `{"a":"` + strings.Repeat("x", limit-len(`{"a":""}`)) + `"}`
	event, err := json.Marshal(map[string]any{
		"auth_events": references[:10], "prev_events": references[:20], "prev_state": []string{},
		"content": json.RawMessage(content), "depth": int64(1)<<53 - 1,
		"hashes": map[string]string{"sha256": strings.Repeat("x", 43)},
		"origin": "localhost", "origin_server_ts": int64(1)<<53 - 1,
		"room_id": "!room:localhost", "sender": "@bot:localhost", "type": "dev.opsdroid.database", "state_key": "",
		"signatures": map[string]any{"localhost": map[string]string{"ed25519:" + strings.Repeat("k", 24): strings.Repeat("x", 86)}},
		"unsigned":   map[string]any{"age_ts": int64(1)<<53 - 1, "replaces_state": references[0]},
	})
	require.NoError(t, err)
	require.LessOrEqual(t, len(event), 65_536)
	require.Greater(t, len(event), 65_536-100, "and little is wasted")
}
