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

// DecodeKey is the reverse of EncodeKey. ok is false for a name that holds no
// key. A key that EncodeKey would wrap only because a homeserver could not keep
// it as it is has a second name, under which another program may have stored it.
func DecodeKey(name string) (key string, ok bool) {
	encoded, wrapped := strings.CutPrefix(name, keyPrefix)
	if !wrapped {
		return name, plain(name) && name != writeName
	}
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	key = string(decoded)
	if err != nil || EncodeKey(key) != name {
		return "", false
	}
	return key, true
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
