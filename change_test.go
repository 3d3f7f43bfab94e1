package matrix

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// A value that others may take for another one, or for no JSON, is shown as it stands in a room.
func TestValueOfAChange(t *testing.T) {
	require.Nil(t, asJSON(nil))
	for value, shown := range map[string]string{
		`{"a": 1.50}`:              `{"a": 1.50}`,
		`hello`:                    `{"dev.joe.bytes":"aGVsbG8="}`,
		``:                         `{"dev.joe.bytes":""}`,
		"\"\xff\"":                 `{"dev.joe.bytes":"Iv8i"}`,
		`{"dev.joe.bytes":"aGk="}`: `{"dev.joe.json":"{\"dev.joe.bytes\":\"aGk=\"}"}`,
		`{"encrypted_val":"$e"}`:   `{"dev.joe.json":"{\"encrypted_val\":\"$e\"}"}`,
	} {
		require.Equal(t, json.RawMessage(shown), asJSON([]byte(value)), "%q", value)
	}
}
