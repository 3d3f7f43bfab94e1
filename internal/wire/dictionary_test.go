package wire

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestDictionary(t *testing.T) {
	content := json.RawMessage(`{
		"b": {"y": 1, "x": 1.50},
		"a<": "grüße",
		"secret": {"encrypted_val": "$id"},
		"new": {"dev.joe.zip": "AA=="},
		"dev.joe.key:AA==": {"dev.joe.bytes": "AA=="},
		"dev.joe.key:?": [1, 2],
		"half \ud800": true,
		"nul \u0000": false
	}`)
	d, err := Layout{}.Decode("", content)
	require.NoError(t, err)
	require.Equal(t, `{"y":1,"x":1.50}`, string(d.Entries["b"].Value), "numbers and order stay")
	require.Equal(t, `"grüße"`, string(d.Entries["a<"].Value))
	require.Equal(t, "$id", d.Entries["secret"].Pointer)
	require.EqualError(t, d.Entries["new"].Err, `unknown wrapper "dev.joe.zip": a newer version of this module may read it`)
	require.Equal(t, "\x00", string(d.Entries["\x00"].Value))
	require.Len(t, d.Entries, 7)
	require.Len(t, d.Rest, 1)

	require.Equal(t, `{"a<":"grüße","b":{"y":1,"x":1.50},"dev.joe.key:?":[1,2],"dev.joe.key:AA==":{"dev.joe.bytes":"AA=="},`+
		`"half \ud800":true,"new":{"dev.joe.zip":"AA=="},"nul \u0000":false,"secret":{"encrypted_val":"$id"}}`, string(d.Content()))

	changed := d.With(map[string]json.RawMessage{
		"b": nil, "a<": nil, "missing": nil, "new": nil, "": EncodeValue([]byte(`1.5`)), "secret": EncodePointer("$other"),
	})
	require.Equal(t, `1.5`, string(changed.Entries[""].Value))
	require.Equal(t, "$other", changed.Entries["secret"].Pointer)
	require.Equal(t, `{"":{"dev.joe.json":"1.5"},"dev.joe.key:?":[1,2],"dev.joe.key:AA==":{"dev.joe.bytes":"AA=="},`+
		`"half \ud800":true,"nul \u0000":false,"secret":{"encrypted_val":"$other"}}`, string(changed.Content()))
	require.Len(t, d.Entries, 7, "the dictionary that was changed is as before")
	require.Equal(t, "$id", d.Entries["secret"].Pointer)

	for i := range content {
		content[i] = 'x' // what the caller does later must not matter
	}
	require.Equal(t, `"grüße"`, string(d.Entries["a<"].Value))
}

func TestZeroDictionary(t *testing.T) {
	require.Equal(t, `{}`, string(Dictionary{}.Content()))
	require.Equal(t, `{"a":1}`, string(Dictionary{}.With(map[string]json.RawMessage{"a": EncodeValue([]byte("1"))}).Content()))
	require.Equal(t, `{}`, string(Dictionary{}.With(nil).Content()))
}

// requireSameDictionary compares dictionaries but for errors, of which only
// the text can be the same.
func requireSameDictionary(t require.TestingT, want, got Dictionary) {
	require.Len(t, got.Entries, len(want.Entries))
	for key, entry := range want.Entries {
		other, ok := got.Entries[key]
		require.True(t, ok, "%q is missing", key)
		require.Equal(t, string(entry.Raw), string(other.Raw))
		require.Equal(t, string(entry.Value), string(other.Value))
		require.Equal(t, entry.Pointer, other.Pointer)
		require.Equal(t, entry.Err == nil, other.Err == nil)
	}
	require.Len(t, got.Rest, len(want.Rest))
	for name, raw := range want.Rest {
		require.Equal(t, string(raw), string(got.Rest[name]))
	}
}

func TestAnyDictionaryRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		layout := Layout{StateKey: "my.key"}
		written := rapid.MapOfN(anyKey(), anyValue(), 0, 8).Draw(t, "values")
		deleted := rapid.SliceOfN(anyKey(), 0, 4).Draw(t, "deleted")

		changes := map[string]json.RawMessage{}
		for key, value := range written {
			changes[key] = EncodeValue(value)
		}
		d := Dictionary{}.With(changes)
		content := d.Content()
		requireSafe(t, content)
		require.Equal(t, len(content), CanonicalSize(content))
		read, err := layout.Decode("my.key", content)
		require.NoError(t, err)
		requireSameDictionary(t, d, read)
		for key, value := range written {
			requireValue(t, value, read.Entries[key].Value, read.Entries[key].Raw)
		}

		left := maps.Clone(written)
		changes = map[string]json.RawMessage{}
		for _, key := range deleted {
			delete(left, key)
			changes[key] = nil
		}
		read, err = layout.Decode("my.key", read.With(changes).Content())
		require.NoError(t, err)
		require.Len(t, read.Entries, len(left))
	})
}

func TestAnyContentIsKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		requireContent(t, []byte(anyJSON(4).Draw(t, "content")))
	})
}

// underOneName gives the members as they are written again: of two names of a key, the
// one that this package gives it gives way.
func underOneName(members map[string]any) map[string]any {
	left := maps.Clone(members)
	for name := range members {
		if safe := EncodeKey(name); safe != name {
			delete(left, safe)
		}
	}
	return left
}

// escaped are the characters that a JSON string can't hold as they are.
const escaped = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\"\\"

// requireContent fails unless content that anybody may have written is either
// refused or kept whole when it is written again.
func requireContent(t require.TestingT, content []byte) {
	d, err := Layout{}.Decode("", content)
	if err != nil {
		require.ErrorIs(t, err, ErrMalformed)
		require.Empty(t, d.Entries)
		return
	}
	for _, entry := range d.Entries {
		requireOneAnswer(t, entry)
	}
	again := d.Content()
	require.True(t, json.Valid(again))
	before, err := parse(content)
	require.NoError(t, err)
	after, err := parse(again)
	require.NoError(t, err)
	if top, ok := before.(map[string]any); ok {
		before = underOneName(top)
	}
	if s, _ := scan(content, true); !s.surrogate { // which the standard library would take for U+FFFD
		require.Equal(t, before, after)
	}
	read, err := Layout{}.Decode("", again)
	require.NoError(t, err)
	requireSameDictionary(t, d, read)
	require.Equal(t, string(again), string(read.Content()))
}

func requireOneAnswer(t require.TestingT, entry Entry) {
	answers := 0
	for _, answer := range []bool{entry.Value != nil, entry.Pointer != "", entry.Err != nil} {
		if answer {
			answers++
		}
	}
	require.Equal(t, 1, answers, "%q is not exactly one of value, pointer and error", entry.Raw)
}

func BenchmarkDecode1000(b *testing.B) {
	changes := map[string]json.RawMessage{}
	for i := range 1000 {
		changes[string(rune('a'+i%26))+string(EncodeValue([]byte{byte(i), byte(i >> 8)}))] = json.RawMessage(`{"count":3,"name":"deploys"}`)
	}
	content := Dictionary{}.With(changes).Content()
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (Layout{}).Decode("", content); err != nil {
			b.Fatal(err)
		}
	}
}
