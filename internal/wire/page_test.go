package wire

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// An event of docs/wire-format.md, as far as it is shown there.
type sample struct {
	StateKey string `json:"state_key"`
	Sender   string
	Content  json.RawMessage
}

// The events in the page on the wire format are what this package reads and writes.
func TestPageOnWrites(t *testing.T) {
	page, err := os.ReadFile("../../docs/wire-format.md")
	require.NoError(t, err)
	const set, deleted, base = "71lxbPe7gT-VE3K3", "AEw7penOpIngGH2w", "$y48PPK25tpjPub63ytsPrxA5sGHTyYW0ILz5qEi9PuQ"
	later := Write{ID: deleted, Depth: 3, Base: base, Keys: map[string]Stamp{"milk": {2, "lBUp44naaMuIPCsg"}, "tea": {3, deleted}}}
	want := []struct {
		keys     map[string]string
		write    Write
		authored bool
	}{
		{map[string]string{"tea": `"green"`}, Write{ID: set, Depth: 1, Keys: map[string]Stamp{"tea": {1, set}}}, true},
		{map[string]string{"milk": `"white"`}, later, true},
		{map[string]string{"coffee": `"black"`, "milk": `"white"`}, later, false},
	}
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(page, -1)
	require.Len(t, blocks, len(want))
	for i, block := range blocks {
		var s sample
		require.NoError(t, json.Unmarshal(block[1], &s))
		d, err := Layout{}.Decode(s.StateKey, s.Content)
		require.NoError(t, err)
		require.Len(t, d.Entries, len(want[i].keys))
		for key, value := range want[i].keys {
			require.Equal(t, value, string(d.Entries[key].Value))
		}
		require.Empty(t, d.Rest)
		require.Equal(t, &want[i].write, d.Write)
		require.Equal(t, want[i].authored, Authored(s.Content, s.Sender))
		require.False(t, Authored(s.Content, "@other:localhost"), "the ID is the sender's")
		if want[i].authored {
			requireSigned(t, d, s)
		}
	}
}

// requireSigned checks that a dictionary with the same entries and write, and the same
// random bytes, is signed as on the page: by the package, and as the page says.
func requireSigned(t *testing.T, d Dictionary, s sample) {
	id, err := base64.RawURLEncoding.DecodeString(d.Write.ID)
	require.NoError(t, err)
	unsigned := *d.Write
	unsigned.Keys = make(map[string]Stamp)
	for key, stamp := range d.Write.Keys {
		if stamp.ID == d.Write.ID {
			stamp.ID = ""
		}
		unsigned.Keys[key] = stamp
	}
	write, content := Dictionary{Entries: d.Entries}.Sign(unsigned, [nonceSize]byte(id), s.Sender)
	require.Equal(t, *d.Write, write)
	require.JSONEq(t, string(s.Content), string(content))

	short := base64.RawURLEncoding.EncodeToString(id[:4])
	require.Len(t, short, 6)
	hashed := strings.ReplaceAll(string(content), `"`+d.Write.ID+`"`, `"`+short+`"`) + s.Sender
	sum := sha256.Sum256([]byte(hashed))
	require.Equal(t, d.Write.ID, base64.RawURLEncoding.EncodeToString(append(id[:4:4], sum[:8]...)))
}
