package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const native = "native"

func nested(depth int) string {
	return strings.Repeat("[", depth) + strings.Repeat("]", depth)
}

// values says for a value how it stands in the state and inside an encrypted
// event: native, or the name of the wrapper.
var values = []struct{ value, state, sealed string }{
	{`{"hello":"world"}`, native, native},
	{" {\"b\" : [1,\t2],\r\n\"a\":null} ", native, native},
	{`"grüße \"quoted\" 🎉"`, native, native},
	{`"<&>"`, native, native},
	{`"\u003c\u0026\u2028\u2029\/\u007f\u001F\b\f\n\r\t"`, native, native},
	{`"\ud83c\udf89 \uD83C\uDF89"`, native, native},
	{`{"z":1,"\u0061":2,"é":3,"🎉":4,"\ufffd":5,"":6}`, native, native},
	{`""`, native, native},
	{`null`, native, native},
	{`true`, native, native},
	{`false`, native, native},
	{`[]`, native, native},
	{`{}`, native, native},
	{`0`, native, native},
	{`-1`, native, native},
	{`9007199254740991`, native, native},
	{`-9007199254740991`, native, native},
	{`{"encrypted_val":"$a","other":1}`, native, native},
	{`{"dev.joe.json":"1","dev.joe.bytes":""}`, native, native},
	{`[{"encrypted_val":"$a"}]`, native, native},
	{`{"a":{"dev.joe.new":1}}`, native, native},
	{`{"encrypted_value":"$a"}`, native, native},
	{`{"dev.joe":1}`, native, native},
	{nested(100), native, native},

	// Names that Dendrite can't write.
	{`{"a\"b":1}`, textName, native},
	{`[{"a":{"\\":1}}]`, textName, native},
	{`{"\n":1}`, textName, native},
	{`{"a":"\"\\\n"}`, native, native},

	// Numbers that canonical JSON forbids or changes.
	{`9007199254740992`, textName, native},
	{`-9007199254740992`, textName, native},
	{`9007199254740993`, textName, textName},
	{`9223372036854775808`, textName, textName}, // written again as 9223372036854776000
	{`9223372036854776000`, textName, native},
	{`9223372036854775807`, textName, textName},
	{`10000000000000000`, textName, native},
	{`21.5`, textName, native},
	{`0.30000000000000004`, textName, native},
	{`0.1000000000000000000001`, textName, textName},
	{`1.0`, textName, native},
	{`0.0`, textName, native},
	{`1e3`, textName, native},
	{`1E+3`, textName, native},
	{`5e-324`, textName, native},
	{`1e400`, textName, textName},
	{`-1e400`, textName, textName},
	{`1e-400`, textName, textName},
	{`0e999999999999999999999`, textName, native},
	{`1e-999999999999999999999`, textName, textName},
	{`-0`, textName, textName},
	{`-0.0`, textName, textName},
	{`{"a":[{"b":1.5}]}`, textName, native},
	{"1." + strings.Repeat("0", 100), textName, textName},

	// What JSON libraries read in different ways.
	{`{"a":1,"a":2}`, textName, textName},
	{`{"a":1,"b":2,"\u0061":3}`, textName, textName},
	{`[{"a":{"x":1,"x":1}}]`, textName, textName},
	{`"\ud800"`, textName, textName},
	{`"\udc00\ud800"`, textName, textName},
	{`"\ud800\ud800\udc00"`, textName, textName},
	{`"\ud800A"`, textName, textName},
	{`{"\udfff":1}`, textName, textName},
	{nested(101), textName, textName},

	// What looks like a wrapper or a pointer.
	{`{"encrypted_val":"$a"}`, textName, textName},
	{`{"encrypted_val":1}`, textName, textName},
	{`{"encrypted\u005fval":{}}`, textName, textName},
	{` { "dev.joe.json" : "1" } `, textName, textName},
	{`{"dev.joe.bytes":""}`, textName, textName},
	{`{"dev.joe.":[]}`, textName, textName},
	{`{"dev.joe.anything":null}`, textName, textName},
	{`{"dev.joe.a":1,"dev.joe.a":1}`, textName, textName},

	// Not JSON, or U+0000.
	{``, bytesName, bytesName},
	{` `, bytesName, bytesName},
	{`hello`, bytesName, bytesName},
	{`{"a":1,}`, bytesName, bytesName},
	{`{"a" 1}`, bytesName, bytesName},
	{`{"a":1 "b":2}`, bytesName, bytesName},
	{`{1:1}`, bytesName, bytesName},
	{`{"a":1`, bytesName, bytesName},
	{`[1,]`, bytesName, bytesName},
	{`[1 2]`, bytesName, bytesName},
	{`[,1]`, bytesName, bytesName},
	{`[`, bytesName, bytesName},
	{`1 2`, bytesName, bytesName},
	{`01`, bytesName, bytesName},
	{`-`, bytesName, bytesName},
	{`+1`, bytesName, bytesName},
	{`.5`, bytesName, bytesName},
	{`1.`, bytesName, bytesName},
	{`1e`, bytesName, bytesName},
	{`1e+`, bytesName, bytesName},
	{`0x1`, bytesName, bytesName},
	{`tru`, bytesName, bytesName},
	{`nullx`, bytesName, bytesName},
	{`NaN`, bytesName, bytesName},
	{`"`, bytesName, bytesName},
	{`"\`, bytesName, bytesName},
	{`"\x"`, bytesName, bytesName},
	{`"\u12"`, bytesName, bytesName},
	{`"\u12g4"`, bytesName, bytesName},
	{`"\ud800\u12"`, bytesName, bytesName},
	{"\"\n\"", bytesName, bytesName},
	{"\"\x00\"", bytesName, bytesName},
	{"\"\xff\"", bytesName, bytesName},
	{"\"\xed\xa0\x80\"", bytesName, bytesName},
	{"{\"\xc0\x80\":1}", bytesName, bytesName},
	{"\ufeff1", bytesName, bytesName},
	{"\x00\x01\x02\xff", bytesName, bytesName},
	{`"\u0000"`, bytesName, bytesName},
	{`{"a":["x\u0000y"]}`, bytesName, bytesName},
	{`{"\u0000":1}`, bytesName, bytesName},
	{nested(10_001), bytesName, bytesName},
}

// wrapper gives the wrapper that raw is, or native.
func wrapper(t require.TestingT, raw json.RawMessage) string {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) == nil && len(object) == 1 {
		for name := range object {
			if name == pointerName || strings.HasPrefix(name, reservedPrefix) {
				return name
			}
		}
	}
	return native
}

// requireValue fails unless got is the value that was set, as far as raw keeps
// it: native values as equal JSON, wrapped ones byte for byte.
func requireValue(t require.TestingT, value, got []byte, raw json.RawMessage) {
	if wrapper(t, raw) != native {
		require.NotNil(t, got)
		require.Equal(t, string(value), string(got))
		return
	}
	before, err := parse(value)
	require.NoError(t, err)
	after, err := parse(got)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func requireStateRoundTrip(t require.TestingT, value []byte) json.RawMessage {
	handed := bytes.Clone(value)
	raw := EncodeValue(handed)
	for i := range handed {
		handed[i] ^= 0xFF // what the caller does later must not matter
	}
	requireSafe(t, raw)
	entry := DecodeValue(raw)
	require.NoError(t, entry.Err)
	require.Empty(t, entry.Pointer)
	require.Equal(t, string(raw), string(entry.Raw))
	requireValue(t, value, entry.Value, raw)
	require.Equal(t, string(raw), string(EncodeValue(entry.Value)), "an equal value must not look changed")
	return raw
}

func requireSealedRoundTrip(t require.TestingT, value []byte) json.RawMessage {
	raw := EncodeSealed(value)
	got, err := DecodeSealed(raw)
	require.NoError(t, err)
	requireValue(t, value, got, raw)

	// Most programs take JSON apart and put it together again.
	var parsed any
	require.NoError(t, json.Unmarshal(raw, &parsed))
	again, err := json.Marshal(parsed)
	require.NoError(t, err)
	got, err = DecodeSealed(again)
	require.NoError(t, err)
	if wrapper(t, raw) != native {
		require.Equal(t, string(value), string(got))
		return raw
	}
	var before, after any
	require.NoError(t, json.Unmarshal(value, &before))
	require.NoError(t, json.Unmarshal(got, &after))
	require.Equal(t, before, after)
	return raw
}

func TestValues(t *testing.T) {
	for _, test := range values {
		raw := requireStateRoundTrip(t, []byte(test.value))
		require.Equal(t, test.state, wrapper(t, raw), "in the state: %.80q", test.value)
		raw = requireSealedRoundTrip(t, []byte(test.value))
		require.Equal(t, test.sealed, wrapper(t, raw), "inside an encrypted event: %.80q", test.value)
	}
	require.Equal(t, `{"dev.joe.bytes":""}`, string(EncodeValue(nil)))
	require.Equal(t, `{"dev.joe.json":" [1.50]"}`, string(EncodeValue([]byte(" [1.50]"))))
	require.Equal(t, `{"dev.joe.bytes":"/+8="}`, string(EncodeValue([]byte{0xff, 0xef})))
	require.Equal(t, "{\"a\":\"<\u2028\",\"b\":1}", string(EncodeValue([]byte(`{"b":1, "a":"\u003c\u2028"}`))))
}

func TestDecodeValue(t *testing.T) {
	for _, test := range []struct {
		raw, value, pointer, err string
	}{
		{raw: `{"encrypted_val":"$id:server"}`, pointer: "$id:server"},
		{raw: ` { "encrypted\u005fval" : "\u0024id" } `, pointer: "$id"},
		{raw: `{"encrypted_val":"$id","more":1}`, value: `{"encrypted_val":"$id","more":1}`},
		{raw: `{"encrypted_val":7}`, err: `"encrypted_val" does not hold an event ID`},
		{raw: `{"encrypted_val":""}`, err: `"encrypted_val" does not hold an event ID`},
		{raw: `{"encrypted_val":"\ud800"}`, err: `"encrypted_val" does not hold an event ID`},
		{raw: `{"encrypted_val":{"encrypted_val":"$id"}}`, err: `"encrypted_val" does not hold an event ID`},
		{raw: `{"dev.joe.json":"[1.50 ]"}`, value: `[1.50 ]`},
		{raw: `{"dev.joe.json":1}`, err: `"dev.joe.json" does not hold JSON as a string`},
		{raw: `{"dev.joe.json":"nope"}`, err: `"dev.joe.json" does not hold JSON as a string`},
		{raw: `{"dev.joe.json":"\"\ud800\""}`, err: `"dev.joe.json" does not hold JSON as a string`},
		{raw: `{"dev.joe.bytes":"AA=="}`, value: "\x00"},
		{raw: `{"dev.joe.bytes":"AA"}`, err: `"dev.joe.bytes" does not hold standard base64 as a string`},
		{raw: `{"dev.joe.bytes":null}`, err: `"dev.joe.bytes" does not hold standard base64 as a string`},
		{raw: `{"dev.joe.zip":"AA=="}`, err: `unknown wrapper "dev.joe.zip": a newer version of this module may read it`},
		{raw: `{"dev.joe.":1}`, err: `unknown wrapper "dev.joe.": a newer version of this module may read it`},
		{raw: ` {"b": 1.50, "a": [1e400, -0, 99999999999999999999]} `, value: `{"b":1.50,"a":[1e400,-0,99999999999999999999]}`},
		{raw: `"\u003c"`, value: `"\u003c"`},
		{raw: `nope`, err: `the entry is not JSON`},
		{raw: "\"\xff\"", err: `the entry is not JSON`},
		{raw: ``, err: `the entry is not JSON`},
	} {
		entry := DecodeValue(json.RawMessage(test.raw))
		require.Equal(t, test.pointer, entry.Pointer, test.raw)
		require.Equal(t, test.value, string(entry.Value), test.raw)
		if test.err != "" {
			require.EqualError(t, entry.Err, test.err, test.raw)
			require.Nil(t, entry.Value, test.raw)
		} else {
			require.NoError(t, entry.Err, test.raw)
		}
	}
	require.Equal(t, Entry{Raw: json.RawMessage(`{"encrypted_val":"$\"odd\\"}`), Pointer: `$"odd\`}, DecodeValue(EncodePointer(`$"odd\`)))
}

func TestDecodeSealed(t *testing.T) {
	value, err := DecodeSealed(json.RawMessage(`{"encrypted_val": "$nope"}`))
	require.NoError(t, err)
	require.Equal(t, `{"encrypted_val":"$nope"}`, string(value), "as opsdroid wrote it: there are no pointers in there")
	for _, broken := range []string{`{"dev.joe.zip":1}`, `{"dev.joe.json":1}`, `{"dev.joe.bytes":"?"}`, ``, `nope`} {
		value, err := DecodeSealed(json.RawMessage(broken))
		require.Error(t, err, broken)
		require.Nil(t, value, broken)
	}
}

// anyJSON draws JSON texts with all that is hard about them.
func anyJSON(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		space := rapid.SampledFrom([]string{"", "", " ", "\n"}).Draw(t, "space")
		switch kind := rapid.IntRange(0, 7).Draw(t, "kind"); {
		case kind == 0:
			return rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?`).Draw(t, "number") + space
		case kind == 1:
			return rapid.StringMatching(`-?(0|[1-9][0-9]{0,16})`).Draw(t, "integer") + space
		case kind <= 3 || depth == 0:
			return space + anyString().Draw(t, "string")
		case kind == 4:
			return rapid.SampledFrom([]string{"null", "true", "false"}).Draw(t, "literal")
		case kind == 5:
			return "[" + space + strings.Join(rapid.SliceOfN(anyJSON(depth-1), 0, 4).Draw(t, "array"), ",") + "]"
		}
		members := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			return anyName().Draw(t, "name") + space + ":" + anyJSON(depth-1).Draw(t, "value")
		}), 0, 4).Draw(t, "object")
		return "{" + strings.Join(members, ","+space) + "}"
	})
}

func anyString() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		parts := rapid.SliceOfN(rapid.OneOf(
			rapid.StringMatching(`[a-z<>&é🎉\x{2028}]{0,5}`),
			rapid.SampledFrom([]string{`\u0000`, `\ud800`, `\udc00`, `\ud83d\ude00`, `\n`, `\"`, `\\`, `\/`, `\u0061`, `\u001f`, `\u2029`}),
		), 0, 4).Draw(t, "parts")
		return `"` + strings.Join(parts, "") + `"`
	})
}

func anyName() *rapid.Generator[string] {
	return rapid.OneOf(anyString(), rapid.SampledFrom([]string{
		`"a"`, `"\u0061"`, `"encrypted_val"`, `"encrypted\u005fval"`, `"dev.joe.json"`, `"dev.joe.bytes"`, `"dev.joe.x"`,
		`"dev.joe.key:YQ=="`, `"dev.joe.key:AA=="`, `"dev.joe.key:?"`,
	}))
}

// anyValue draws what a program may set.
func anyValue() *rapid.Generator[[]byte] {
	return rapid.OneOf(
		rapid.Map(anyJSON(4), func(text string) []byte { return []byte(text) }),
		rapid.SliceOfN(rapid.Byte(), 0, 100),
	)
}

func TestAnyValueRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := anyValue().Draw(t, "value")
		requireStateRoundTrip(t, value)
		requireSealedRoundTrip(t, value)
	})
}

func BenchmarkEncodeValue(b *testing.B) {
	for name, value := range benchmarkValues() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				EncodeValue(value)
			}
		})
	}
}

func BenchmarkDecodeValue(b *testing.B) {
	for name, value := range benchmarkValues() {
		raw := EncodeValue(value)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				DecodeValue(raw)
			}
		})
	}
}

func benchmarkValues() map[string][]byte {
	return map[string][]byte{
		"string": []byte(`"` + strings.Repeat("x", 98) + `"`),
		"object": []byte(`{"name":"deploys","count":3,"tags":["a","b","c"],"by":{"id":"@ada:example.org","admin":true},"n":12345}`),
		"bytes":  []byte(strings.Repeat("\xff", 100)),
	}
}

func TestBase64IsStandard(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	require.Equal(t, `{"dev.joe.bytes":"`+base64.StdEncoding.EncodeToString(all)+`"}`, string(EncodeValue(all)))
}
