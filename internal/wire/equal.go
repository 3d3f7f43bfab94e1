package wire

import (
	"bytes"
	"encoding/json"
)

// Equal says whether two JSON texts are the same as canonical JSON.
func Equal(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	one, ok := scan(a, true)
	if !ok {
		return false
	}
	other, ok := scan(b, true)
	return ok && bytes.Equal(one.out, other.out)
}

// Canonical gives a JSON text as canonical JSON, and what is no JSON as it is.
func Canonical(raw json.RawMessage) json.RawMessage {
	s, ok := scan(raw, true)
	if !ok {
		return raw
	}
	return s.out
}
