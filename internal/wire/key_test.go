package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestKeys(t *testing.T) {
	long := strings.Repeat("k", 255)
	for _, test := range []struct{ key, name, stateKey string }{
		{"twim", "twim", "twim"},
		{"a/b %#?..", "a/b %#?..", "a/b %#?.."},
		{"...", "...", "..."},
		{".", ".", "dev.joe.sha256:cdb4ee2aea69cc6a83331bbe96dc2caa9a299d21329efb0336fc02a82e1839a8"},
		{"..", "..", "dev.joe.sha256:5ec1f7e700f37c3d0b2981d04855fc34b94aaa15457b05ca571817442d228f81"},
		{"🎉\u2028<", "🎉\u2028<", "🎉\u2028<"},
		{"a\"b", "dev.joe.key:YSJi", "a\"b"},
		{"a\\b", "dev.joe.key:YVxi", "a\\b"},
		{"\n", "dev.joe.key:Cg==", "\n"},
		{"dev.joe.json", "dev.joe.json", "dev.joe.json"},
		{"encrypted_val", "encrypted_val", "encrypted_val"},
		{"", "", "dev.joe.sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"@", "@", "dev.joe.sha256:c3641f8544d7c02f3580b07c0f9887f0c6a27ff5ab1d4a3e29caf197cfc299ae"},
		{"@bot:localhost", "@bot:localhost", "dev.joe.sha256:707997bd3416297a6ec4884b9fabf9a1d789d09fac2bba8b703011d658ebed76"},
		{"\xff", "dev.joe.key:/w==", "dev.joe.sha256:a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89"},
		{"\x00", "dev.joe.key:AA==", "dev.joe.sha256:6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"},
		{"dev.joe.key:", "dev.joe.key:ZGV2LmpvZS5rZXk6", "dev.joe.key:"},
		{"dev.joe.key:AA==", "dev.joe.key:ZGV2LmpvZS5rZXk6QUE9PQ==", "dev.joe.key:AA=="},
		{"dev.joe.sha256:", "dev.joe.sha256:", "dev.joe.sha256:f8f861898d25bacd1499e2315c2a615785552454e3850f47e88d17db31d6eaf1"},
		{long, long, long},
		{long + "k", long + "k", "dev.joe.sha256:ce16fe78208a4e93f7158e62393680e025b2ad584f4e875ce903a654bb74cf93"},
		{strings.Repeat("é", 128), strings.Repeat("é", 128), "dev.joe.sha256:e42dd264fd5cf1bc947505b995dceb9ae0a2d2a4c99b4ce5ea02f36526819280"},
	} {
		require.Equal(t, test.name, EncodeKey(test.key), "%q", test.key)
		key, ok := DecodeKey(test.name)
		require.True(t, ok, "%q", test.key)
		require.Equal(t, test.key, key)
		require.Equal(t, test.stateKey, StateKey(test.key), "%q", test.key)
	}
}

// own returns a dictionary that holds a key by the name that this package gives it.
func own(key string) Dictionary {
	return Dictionary{}.With(map[string]json.RawMessage{key: json.RawMessage(`2`)})
}

// A key that another program has stored keeps the name that it has there.
func TestNameOfAnotherProgram(t *testing.T) {
	for _, key := range []string{`a"b`, `a\b`, "\n", "a\x00b", "dev.joe.key:", "dev.joe.key:?", "dev.joe.key:dGVh", "dev.joe.key:AA"} {
		name := string(appendString(nil, key))
		d, err := Layout{}.Decode("", []byte(`{`+name+`:1}`))
		require.NoError(t, err)
		require.Equal(t, "1", string(d.Entries[key].Value), "%q", key)
		d = d.With(map[string]json.RawMessage{"other": json.RawMessage(`1`), key: json.RawMessage(`2`)})
		require.True(t, Equal([]byte(`{"other":1,`+name+`:2}`), d.Content()), "%s", d.Content())
		named := Dictionary{}.NamedAs(d).With(map[string]json.RawMessage{key: json.RawMessage(`3`)})
		require.Equal(t, `{`+name+`:3}`, string(named.Content()))
		for _, others := range [][]Dictionary{{d}, {{}, d, own(key)}} {
			require.Equal(t, string(d.Content()), string(Dictionary{Entries: d.Entries}.NamedAs(Dictionary{}, others...).Content()))
		}
		require.Equal(t, string(own(key).Content()), string(own(key).NamedAs(own(key), d).Content()), "it stands there by another name")
	}
}

// A key that stands there under two names was stored later by the other program, which
// does not know the name that this package gives it.
func TestTwoNames(t *testing.T) {
	for _, content := range []string{`{"a\"b":1,"dev.joe.key:YSJi":2}`, `{"dev.joe.key:YSJi":2,"a\"b":1}`} {
		d, err := Layout{}.Decode("", []byte(content))
		require.NoError(t, err)
		require.Equal(t, "1", string(d.Entries[`a"b`].Value))
		require.True(t, d.Twice)
		require.Equal(t, `{"a\"b":1}`, string(d.Content()))
		require.False(t, d.With(nil).Twice)
	}
}

func TestNamesThatAreNoKeys(t *testing.T) {
	for _, name := range []string{"dev.joe.write", "\xff", "\xed\xa0\x80"} { // the last one is half a surrogate pair
		_, ok := DecodeKey(name)
		require.False(t, ok, "%q", name)
	}
}

// What is no key that this package has wrapped is one that another program has stored.
func TestNamesThatAreKeysThemselves(t *testing.T) {
	for _, name := range []string{
		"dev.joe.key:?",      // no base64
		"dev.joe.key:AA",     // no padding
		"dev.joe.key:AB==",   // bits that nobody reads
		"dev.joe.key:AA==\n", // base64 with a line end
		"dev.joe.key:YQ==",   // "a" stands as it is
		"dev.joe.key:",       // so does the empty key
		"a\x00",              // stands as base64
	} {
		key, ok := DecodeKey(name)
		require.True(t, ok, "%q", name)
		require.Equal(t, name, key)
	}
}

// anyKey draws keys, and what looks like this package's names for them.
func anyKey() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		prefix := rapid.SampledFrom([]string{"", "", "", "@", keyPrefix, stateKeyPrefix, "\x00", "\xff"}).Draw(t, "prefix")
		key := rapid.OneOf(
			rapid.String(),
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 20), func(b []byte) string { return string(b) }),
			rapid.Map(rapid.IntRange(200, 4096), func(n int) string { return strings.Repeat("k", n) }),
		).Draw(t, "key")
		switch rapid.IntRange(0, 5).Draw(t, "derive") {
		case 0:
			key = EncodeKey(key)
		case 1:
			key = StateKey(key)
		}
		return prefix + key
	})
}

func requireKey(t require.TestingT, key string) {
	name := EncodeKey(key)
	require.True(t, plain(name))
	got, ok := DecodeKey(name)
	require.True(t, ok)
	require.Equal(t, key, got)

	stateKey := StateKey(key)
	require.NotEmpty(t, stateKey)
	require.LessOrEqual(t, len(stateKey), 255)
	require.True(t, utf8.ValidString(stateKey))
	require.False(t, strings.HasPrefix(stateKey, "@"))
	require.NotContains(t, stateKey, "\x00")

	require.False(t, strings.ContainsAny(name, escaped))

	// Read as a name, the key is itself, a wrapped key or no key at all.
	if got, ok := DecodeKey(key); ok && got != key {
		require.Equal(t, key, EncodeKey(got))
	}
}

func TestAnyKeyRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		requireKey(t, anyKey().Draw(t, "key"))
	})
}

func TestNoTwoKeysShareAPlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfN(anyKey(), 2, 20).Draw(t, "keys")
		for _, key := range keys { // what is most likely to collide
			keys = append(keys, EncodeKey(key), StateKey(key))
		}
		names, stateKeys := map[string]string{}, map[string]string{}
		for _, key := range keys {
			for place, taken := range map[string]map[string]string{EncodeKey(key): names, StateKey(key): stateKeys} {
				if other, ok := taken[place]; ok {
					require.Equal(t, other, key, "both have the place %q", place)
				}
				taken[place] = key
			}
		}
	})
}
