package wire

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func FuzzValue(f *testing.F) {
	for _, test := range values {
		if len(test.value) < 1000 {
			f.Add([]byte(test.value))
		}
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		_, ok := scan(value, false)
		require.Equal(t, json.Valid(value) && utf8.Valid(value), ok, "strict as the standard library, and UTF-8")
		requireStateRoundTrip(t, value)
		requireSealedRoundTrip(t, value)
		requireOneAnswer(t, DecodeValue(value))
		sealed, err := DecodeSealed(value)
		require.Equal(t, err == nil, sealed != nil)
	})
}

func FuzzKey(f *testing.F) {
	for _, key := range []string{"", "a", "@a", "\xff", "\x00", "dev.joe.key:AA==", "dev.joe.key:YQ==", "dev.joe.sha256:", "\xed\xa0\x80", "é"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		requireKey(t, key)
		layout := Layout{PerKey: true}
		d, err := layout.Decode(layout.Of(key), Dictionary{}.With(map[string]json.RawMessage{key: json.RawMessage(`1`)}).Content())
		require.NoError(t, err)
		require.Contains(t, d.Entries, key)
	})
}

func FuzzContent(f *testing.F) {
	for _, content := range []string{
		`{}`, `{"a":1}`, ` { "a" : [ 1 , 2.5 ] , "b" : {"encrypted_val":"$id"} } `, `{"a":{"dev.joe.zip":1}}`,
		`{"dev.joe.key:AA==":1,"dev.joe.key:?":2,"\ud800":3,"\u0000":4}`, `{"a":1,"\u0061":2}`, `{"a":"\ud83c\udf89\/"}`, `[]`, `{`,
		`{"dev.joe.key:\b":0}`, `{"\b":1,"dev.joe.key:CA==":2}`, `{"dev.joe.key:YQ==":1,"a":2}`, `{"\b":0,"\b":2}`,
	} {
		f.Add([]byte(content))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		requireContent(t, content)
		requireCanonicalSize(t, content)
		for _, decode := range []func(string, json.RawMessage) (Dictionary, error){
			Layout{PerKey: true}.Decode, Layout{PerKey: true}.DecodeLegacy,
		} {
			if d, err := decode("a", content); err == nil {
				require.LessOrEqual(t, len(d.Entries), 1)
				require.True(t, len(d.Rest) == 0 || len(d.Entries) == 1)
			}
		}
	})
}
