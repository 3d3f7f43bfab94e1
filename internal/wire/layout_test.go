package wire

import (
	"encoding/json"
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
}

func TestDictionaryLayoutsAreNameSpaces(t *testing.T) {
	_, err := Layout{}.Decode("my.key", json.RawMessage(`{"a":1}`))
	require.ErrorIs(t, err, ErrForeign)
	_, err = Layout{StateKey: "my.key"}.DecodeLegacy("", json.RawMessage(`{"a":1}`))
	require.ErrorIs(t, err, ErrForeign)
}

func TestMalformedContent(t *testing.T) {
	for _, content := range []string{``, `null`, `[]`, `"a"`, `{`, `{}{}`, "{\"a\":\"\xff\"}", `{"a":1,"b":2,"\u0061":3}`, `{"dev.joe.key:?":1,"dev.joe.key:?":2}`} {
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
		err                    error
	}{
		{stateKey: "a", content: `{"a":1}`, key: "a"},
		{stateKey: "a", content: `{"a":{"dev.joe.zip":1}}`, key: "a"},
		{stateKey: hashed, content: `{"@bot":1}`, key: "@bot"},
		{stateKey: StateKey("\xff"), content: `{"dev.joe.key:/w==":1}`, key: "\xff"},
		{stateKey: StateKey(""), content: `{"":1}`, key: ""},
		{stateKey: "a", content: `{"b":1}`, err: ErrForeign},
		{stateKey: "a", content: `{"a":1,"b":2}`, err: ErrForeign},
		{stateKey: "a", content: `{"a":1,"dev.joe.key:?":2}`, err: ErrForeign},
		{stateKey: "a", content: `{"dev.joe.key:YQ==":1}`, err: ErrForeign},
		{stateKey: "@bot", content: `{"@bot":1}`, err: ErrForeign},
		{stateKey: "", content: `{"":1}`, err: ErrForeign},
		{stateKey: hashed, content: `{"other":1}`, err: ErrForeign},
		{stateKey: hashed, content: `{"` + hashed + `":1}`, err: ErrForeign},
	} {
		d, err := layout.Decode(test.stateKey, json.RawMessage(test.content))
		require.ErrorIs(t, err, test.err, test.content)
		if test.err == nil {
			require.Len(t, d.Entries, 1, test.content)
			require.Contains(t, d.Entries, test.key)
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
		if other != key {
			_, err = layout.Decode(layout.Of(other), written.Content())
			require.ErrorIs(t, err, ErrForeign)
		}
	})
}
