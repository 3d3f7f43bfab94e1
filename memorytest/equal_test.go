package memorytest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEqualValues(t *testing.T) {
	tests := []struct {
		want, got string
		equal     bool
	}{
		{"", "", true},
		{"", "null", false},
		{"\xff\x00", "\xff\x00", true},
		{"\xff", "\ufffd", false},
		{" text", "text", false},
		{" 1\n", "1", true},
		{`{"a":1,"b":[{}]}`, `{ "b": [ {} ], "a": 1 }`, true},
		{`{"a":1}`, `{"a":1,"b":2}`, false},
		{`[1,2]`, `[2,1]`, false},
		{`[]`, `{}`, false},
		{`[]`, `[[]]`, false},
		{`1`, `"1"`, false},
		{`null`, `{}`, false},
		// Numbers keep their literals.
		{`1.0`, `1`, false},
		{`-0`, `0`, false},
		{`1e400`, `1e400`, true},
		{`[1e400]`, `[ 1e400 ]`, true},
		{`[9223372036854775808]`, `[ 9223372036854775807 ]`, false},
		// Strings may be escaped in another way.
		{`"\u00e9\/\ud83c\udf75"`, `"é/🍵"`, true},
		{`"\\ud800"`, `"\u005cud800"`, true},
		{`"\\ud800"`, `"\\\\ud800"`, false},
		{`"\u0000"`, `""`, false},
		// What parsers disagree on comes back byte for byte.
		{`"\ud800"`, `"\ud800"`, true},
		{`"\ud800"`, `"\ufffd"`, false},
		{`"\ufffd"`, `"\ud800"`, false},
		{`"\ud800"`, `"\uD800"`, false},
		{`"\udc00\ud800"`, `"\ud800\udc00"`, false},
		{`"\ud800\u0041"`, `"\ud800A"`, false},
		{`{"\ud800":1}`, `{ "\ud800": 1 }`, false},
		{`{"a":1,"a":2}`, `{"a":1,"a":2}`, true},
		{`{"a":1,"a":2}`, `{"a":2}`, false},
		{`{"a":2}`, `{"a":1,"a":2}`, false},
		{`{"a":1,"\u0061":2}`, `{"a":1,"a":2}`, false},
		{"\"\xff\"", "\"\ufffd\"", false},
	}
	for _, test := range tests {
		require.Equal(t, test.equal, equalValues([]byte(test.want), []byte(test.got)),
			"want %s, got %s", test.want, test.got)
	}
}

// TestCasesDiffer shows that no case stands in for another.
func TestCasesDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range values {
		require.False(t, seen[v.name], "value %s twice", v.name)
		seen[v.name] = true
	}
	seen = map[string]bool{}
	for _, v := range values {
		require.False(t, v.value != nil && seen[string(v.value)], "the value of %s twice", v.name)
		seen[string(v.value)] = v.value != nil
	}
	seen = map[string]bool{}
	for _, key := range append(keys[:len(keys):len(keys)], neverSet...) {
		require.False(t, seen[key], "key %q twice", key)
		seen[key] = true
	}
}

// FuzzEqualValues looks for texts on which the comparison panics or depends on
// the order of its arguments.
func FuzzEqualValues(f *testing.F) {
	for i, v := range values {
		f.Add(v.value, values[(i+1)%len(values)].value)
	}
	f.Add([]byte(`"\ud800\u"`), []byte(`"\\u`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		require.True(t, equalValues(a, a))
		require.Equal(t, equalValues(a, b), equalValues(b, a))
		_, _ = parseStrict(a)
	})
}
