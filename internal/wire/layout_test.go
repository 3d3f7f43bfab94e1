package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestLayoutPlaces(t *testing.T) {
	single, custom, perKey := Layout{}, Layout{StateKey: "my.key"}, Layout{PerKey: true}
	require.Equal(t, "", single.Of("a"))
	require.Equal(t, "my.key", custom.Of("a"))
	require.Equal(t, "a", perKey.Of("a"))
	require.Equal(t, StateKey("@a"), perKey.Of("@a"))

	require.True(t, single.Owns(""))
	require.False(t, single.Owns("my.key"))
	require.True(t, custom.Owns("my.key"))
	require.False(t, custom.Owns(""))
	require.True(t, perKey.Owns("anything"))

	for key, stateKey := range map[string]string{"": "", ".": "", "@bot": "@bot", "a\x00": "a\x00", "dev.joe.sha256:x": "dev.joe.sha256:x"} {
		other, ok := perKey.Other(key)
		require.True(t, ok, "%q", key)
		require.Equal(t, stateKey, other)
		_, ok = single.Other(key)
		require.False(t, ok)
	}
	for _, key := range []string{"a", "a\"b", ".."} {
		_, ok := perKey.Other(key)
		require.False(t, ok, "%q", key)
	}
}

func TestDictionaryLayoutsAreNameSpaces(t *testing.T) {
	_, err := Layout{}.Decode("my.key", json.RawMessage(`{"a":1}`))
	require.ErrorIs(t, err, ErrForeign)
	_, err = Layout{StateKey: "my.key"}.DecodeLegacy("", json.RawMessage(`{"a":1}`))
	require.ErrorIs(t, err, ErrForeign)
}

func TestMalformedContent(t *testing.T) {
	for _, content := range []string{``, `null`, `[]`, `"a"`, `{`, `{}{}`, "{\"a\":\"\xff\"}", `{"a":1,"b":2,"\u0061":3}`, `{"dev.joe.key:?":1,"dev.joe.key:?":2}`, `{"\ud800":1,"\ud800":2}`, `{"dev.joe.write":1,"dev.joe.write":2}`} {
		for _, layout := range []Layout{{}, {PerKey: true}} {
			_, err := layout.Decode("", json.RawMessage(content))
			require.ErrorIs(t, err, ErrMalformed, content)
		}
	}
	_, err := Layout{PerKey: true}.DecodeLegacy("a", json.RawMessage(`[1]`))
	require.EqualError(t, err, "the state event does not hold a dictionary: its content is no JSON object")
}

func TestPerKeyContent(t *testing.T) {
	layout := Layout{PerKey: true}
	hashed := StateKey("@bot")
	for _, test := range []struct {
		stateKey, content, key string
		rest                   int
		err                    error
	}{
		{stateKey: "a", content: `{"a":1}`, key: "a"},
		{stateKey: "a", content: `{"a":{"dev.joe.zip":1}}`, key: "a"},
		{stateKey: hashed, content: `{"@bot":1}`, key: "@bot"},
		{stateKey: StateKey("\xff"), content: `{"dev.joe.key:/w==":1}`, key: "\xff"},
		{stateKey: StateKey(""), content: `{"":1}`, key: ""},
		{stateKey: "a\"b", content: `{"dev.joe.key:YSJi":1}`, key: "a\"b"},
		// as opsdroid has them
		{stateKey: "a\"b", content: `{"a\"b":1}`, key: "a\"b"},
		{stateKey: "@bot", content: `{"@bot":1}`, key: "@bot"},
		{stateKey: "", content: `{"":1}`, key: ""},
		{stateKey: "", content: `{".":1}`, key: "."},
		{stateKey: "", content: `{".":1,"tea":2}`, key: ".", rest: 1},
		{stateKey: "a\x00", content: `{"a\u0000":1}`, key: "a\x00"},
		{stateKey: "dev.joe.key:dGVh", content: `{"dev.joe.key:dGVh":1}`, key: "dev.joe.key:dGVh"},
		{stateKey: "dev.joe.sha256:x", content: `{"dev.joe.sha256:x":1}`, key: "dev.joe.sha256:x"},
		{stateKey: hashed, content: `{"` + hashed + `":1}`, key: hashed},
		{stateKey: "a", content: `{"a":1,"b":2}`, key: "a", rest: 1},
		{stateKey: "a", content: `{"a":1,"\ud800":2}`, key: "a", rest: 1},
		// not of the memory
		{stateKey: "a", content: `{"b":1}`, err: ErrForeign},
		{stateKey: "a", content: `{"a":1,"dev.joe.write":{}}`, err: ErrForeign},
		{stateKey: "a", content: `{"dev.joe.write":{}}`, err: ErrForeign},
		{stateKey: "a", content: `{"dev.joe.key:YQ==":1}`, err: ErrForeign},
		{stateKey: "", content: `{"tea":1}`, err: ErrForeign},
		{stateKey: "..", content: `{"..":1}`, err: ErrForeign},
		{stateKey: hashed, content: `{"other":1}`, err: ErrForeign},
	} {
		d, err := layout.Decode(test.stateKey, json.RawMessage(test.content))
		require.ErrorIs(t, err, test.err, test.content)
		if test.err == nil {
			require.Len(t, d.Entries, 1, test.content)
			require.Contains(t, d.Entries, test.key)
			require.Len(t, d.Rest, test.rest, test.content)
			require.True(t, Equal([]byte(test.content), d.Content()), "%s", d.Content())
		}
	}
	d, err := layout.Decode("a", json.RawMessage(`{}`))
	require.NoError(t, err)
	require.Empty(t, d.Entries)
}

func TestLegacyContent(t *testing.T) {
	perKey := Layout{PerKey: true}
	d, err := perKey.DecodeLegacy("@a", json.RawMessage(`{"hello": "world"}`))
	require.NoError(t, err)
	require.Equal(t, `{"hello":"world"}`, string(d.Entries["@a"].Value))
	d, err = perKey.DecodeLegacy("a", json.RawMessage(`{"encrypted_val": "$id"}`))
	require.NoError(t, err)
	require.Equal(t, "$id", d.Entries["a"].Pointer)
	d, err = perKey.DecodeLegacy("a", json.RawMessage(`{}`))
	require.NoError(t, err)
	require.Empty(t, d.Entries)

	_, err = perKey.DecodeLegacy("", json.RawMessage(`{"a": 1}`))
	require.ErrorIs(t, err, ErrForeign, "it is a dictionary of the other layout")

	d, err = Layout{}.DecodeLegacy("", json.RawMessage(`{"a": 1}`))
	require.NoError(t, err)
	require.Equal(t, `1`, string(d.Entries["a"].Value))
}

func TestAnyKeyIsFoundPerKey(t *testing.T) {
	layout := Layout{PerKey: true}
	rapid.Check(t, func(t *rapid.T) {
		key, value := anyKey().Draw(t, "key"), anyValue().Draw(t, "value")
		written := Dictionary{}.With(map[string]json.RawMessage{key: EncodeValue(value)})
		read, err := layout.Decode(layout.Of(key), written.Content())
		require.NoError(t, err)
		requireSameDictionary(t, written, read)

		other := anyKey().Draw(t, "other")
		if at := layout.Of(other); !layout.belongs(key, at) {
			_, err = layout.Decode(at, written.Content())
			require.ErrorIs(t, err, ErrForeign)
		}
	})
}

// Members of one name are never taken, however many there are and whatever else is there; the
// two names of a key are two.
func TestMembersOfOneName(t *testing.T) {
	names := []string{`a\"b`, "dev.joe.key:YSJi", "k", "dev.joe.write", `\ud800`, "dev.joe.key:!!"}
	rapid.Check(t, func(t *rapid.T) {
		chosen := rapid.SliceOfN(rapid.IntRange(0, len(names)-1), 0, 6).Draw(t, "names")
		times := make(map[int]int)
		members, again := make([]string, len(chosen)), false
		for i, n := range chosen {
			times[n]++
			again = again || times[n] > 1
			members[i] = fmt.Sprintf(`"%s":%d`, names[n], i)
		}
		d, err := Layout{}.Decode("", json.RawMessage("{"+strings.Join(members, ",")+"}"))
		require.Equal(t, again, errors.Is(err, ErrMalformed))
		require.Equal(t, !again && times[0]+times[1] == 2, d.Twice)
	})
}
