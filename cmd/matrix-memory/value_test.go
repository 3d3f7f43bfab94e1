package main

import (
	"bytes"
	"encoding/json"
	"strconv"
	"testing"
	"testing/quick"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// comesBack prints a value, and says whether to set what is printed sets it again.
func comesBack(t *testing.T, value []byte) bool {
	line := printable(value)
	require.True(t, utf8.Valid(line) && json.Valid(line) && !bytes.ContainsRune(line, '\n'), "%q", line)
	back, err := parse(line)
	require.NoError(t, err, "%q", line)
	return bytes.Equal(back, value)
}

// TestWhatIsPrintedCanBeSet prints values, and sets what is printed.
func TestWhatIsPrintedCanBeSet(t *testing.T) {
	for _, value := range []string{
		"", "hello", "\"\xff\"", "{\"\xff\":1}", `"green"`, "null", "1.50", "12345678901234567890", `{"b":1,"a":2}`, `{"a":1,"a":2}`, `"\ud800"`, `"\u0000"`,
		`{"dev.joe.bytes":"aGk="}`, `{"dev.joe.bytes":"?"}`, `{"dev.joe.json":"1"}`, `{"dev.joe.new":1}`, `{"encrypted_val":"$e"}`, `{"encrypted_val":1}`,
		`[{"dev.joe.bytes":"aGk="}]`, `{"dev.joe.bytes":"aGk=","more":1}`,
	} {
		require.True(t, comesBack(t, []byte(value)), "%q is printed as %s", value, printable([]byte(value)))
	}
	require.NoError(t, quick.Check(func(value []byte) bool { return comesBack(t, value) }, nil))
	require.NoError(t, quick.Check(func(value string) bool { return comesBack(t, []byte(strconv.Quote(value))) }, nil))
	require.NoError(t, quick.Check(func(value map[string][]int) bool {
		text, err := json.Marshal(map[string]any{"dev.joe.bytes": value})
		return err == nil && comesBack(t, text)
	}, nil))
	require.Equal(t, `{"a":[1,2]}`, string(printable([]byte("{ \"a\":\n[1, 2] }"))))
}
