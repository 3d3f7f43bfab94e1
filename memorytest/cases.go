package memorytest

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// values are kept side by side in one memory, each under its name.
var values = []struct {
	name  string
	value []byte
}{
	// Bytes that are not JSON, however close they come.
	{"nil", nil},
	{"empty", []byte{}},
	{"padded text", []byte("  tea \n")},
	{"all bytes", allBytes()},
	{"invalid UTF-8", []byte("\xff\xfe")},
	{"invalid UTF-8 in JSON", []byte("[\"\xff\",\"\xed\xa0\x80\"]")},
	{"byte order mark", []byte("\ufeff{}")},
	{"cut JSON", []byte(`{"a":`)},

	// JSON, which has more forms than most stores can hold.
	{"null", []byte(`null`)},
	{"negative zero", []byte(`-0`)},
	{"one point zero", []byte(`1.0`)},
	{"float", []byte(`0.1`)},
	{"digits", []byte(`[1E+2,3.14159265358979323846264338327950288]`)},
	{"safe integers", []byte(`[9007199254740991,-9007199254740991]`)},
	{"2^53+1", []byte(`9007199254740993`)},
	{"2^63", []byte(`9223372036854775808`)},
	{"1e400", []byte(`1e400`)},
	{"string", []byte(`"<tea> & \"caf\u00e9\" \/ \\ud800 \ud83c\udf75 🍵 ` + "\u2028" + `"`)},
	{"escaped NUL", []byte(`{"\u0000":"\u0000"}`)},
	{"lone surrogates", []byte(`["\ud800","\udc00\ud800"]`)},
	{"surrogates in names", []byte(`{"\ud800":1,"\ud801":2}`)},
	{"empty object", []byte(`{}`)},
	{"unordered members", []byte(` { "b" : [ 1 , null , true ] , "a" : { "d" : "" , "c" : [] } , "" : 0 } `)},
	{"duplicate members", []byte(`{"a":1,"a":2}`)},
	{"deep duplicate members", []byte(`[{"a":{"b":1,"\u0062":2}}]`)},
	{"deep objects", nested(`{"a":`, `1`, `}`, 1000)},
	// Go's encoding/json refuses more than 10,000 levels, so this one can't be
	// put into anything larger.
	{"deepest arrays", nested(`[`, ``, `]`, 10000)},

	// JSON that looks like what a store may write around a value.
	{"pointer", []byte(`{"encrypted_val":"$x"}`)},
	{"escaped pointer", []byte(`{"\u0065ncrypted_val":"$x"}`)},
	{"pointer to a number", []byte(`{"encrypted_val":1}`)},
	{"pointer with a neighbour", []byte(`{"a":{"dev.joe.json":"1"},"encrypted_val":"$x"}`)},
	{"JSON wrapper", []byte(`{"dev.joe.json":"1"}`)},
	{"double JSON wrapper", []byte(`{"dev.joe.json":"{\"dev.joe.json\":\"1\"}"}`)},
	{"bytes wrapper", []byte(`{"dev.joe.bytes":"dGVh"}`)},
	{"broken bytes wrapper", []byte(`{"dev.joe.bytes":"!"}`)},
	{"unknown wrapper", []byte(`{"dev.joe.unknown":1}`)},
}

// keys are kept side by side in one memory, each with a value of its own.
var keys = []string{
	"", "tea", "Tea", " tea", "tea\x00", "a\x00b",
	"@tea", "@tea:localhost", "#tea:localhost",
	"a/b", "a/../b", "/", "..", "a.b",
	"%2F", "?a=b&c#d", `a\b"c`, "*|:0",
	"🍵", "caf\u00e9", "cafe\u0301", "\ufffd", "\xff", "\xfe",
	"dev.joe.key:", "dev.joe.key:dGVh", "dev.joe.key:!",
	"dev.joe.sha256:", "dev.joe.sha256:" + sha256OfTea,
	strings.Repeat("k", 255), strings.Repeat("k", 256), strings.Repeat("é", 128),
	strings.Repeat("@", 4096), strings.Repeat("k", 4095) + "1", strings.Repeat("k", 4095) + "2",
}

// sha256OfTea is what a store that hashes its keys may keep the key "tea" under.
var sha256OfTea = fmt.Sprintf("%x", sha256.Sum256([]byte("tea")))

// neverSet are keys that are not in keys, but close to some.
var neverSet = []string{
	"te", "tea1", "TEA", "\t", "\x00\x00", "/tea", "a", "b", "../b", "%2f", "a b",
	"_joe/", "dev.joe.key", "dGVh", strings.Repeat("k", 4095), strings.Repeat("k", 4096),
}

func allBytes() []byte {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return all
}

func nested(left, middle, right string, levels int) []byte {
	return []byte(strings.Repeat(left, levels) + middle + strings.Repeat(right, levels))
}
