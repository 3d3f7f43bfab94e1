package wire

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

const (
	keyPrefix      = reservedPrefix + "key:"
	stateKeyPrefix = reservedPrefix + "sha256:"

	// maxStateKey is the most bytes a state key may have:
	// https://spec.matrix.org/latest/client-server-api/#size-limits.
	maxStateKey = 255
)

// EncodeKey gives the name of the member that holds key in a dictionary: the
// key itself if JSON and every homeserver keep it, else its base64.
func EncodeKey(key string) string {
	if plain(key) && !needsEscape(key) && !strings.HasPrefix(key, keyPrefix) && key != writeName {
		return key
	}
	return keyPrefix + base64.StdEncoding.EncodeToString([]byte(key))
}

// DecodeKey gives the key of the member with a name: what EncodeKey was given, or else
// the name itself, under which another program has stored it. So a key that EncodeKey
// wraps has two names. ok is false for a name that holds no key.
func DecodeKey(name string) (key string, ok bool) {
	if encoded, wrapped := strings.CutPrefix(name, keyPrefix); wrapped {
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if err == nil && EncodeKey(string(decoded)) == name {
			return string(decoded), true
		}
	}
	return name, utf8.ValidString(name) && name != writeName
}

// StateKey gives the state key under which the per-key layout keeps key: the
// key itself if a bot may use it as a state key, else its hash. Homeservers
// keep state keys that start with @ for the user of that ID. "." and ".." would
// stand at the end of a URL's path, where proxies take them away.
func StateKey(key string) string {
	if key != "" && key != "." && key != ".." && len(key) <= maxStateKey && plain(key) &&
		key[0] != '@' && !strings.HasPrefix(key, stateKeyPrefix) {
		return key
	}
	hash := sha256.Sum256([]byte(key))
	return stateKeyPrefix + hex.EncodeToString(hash[:])
}

// plain reports whether text can stand in an event as it is. Homeservers that
// keep events in PostgreSQL can't store U+0000.
func plain(text string) bool {
	return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0
}
