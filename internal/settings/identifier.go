package settings

import (
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"maunium.net/go/mautrix/id"
)

// MaxIdentifier is the most bytes that user IDs, aliases, room IDs, event types
// and state keys may have (Matrix spec, "Size limits").
const MaxIdentifier = 255

// IsBaseURL says whether s can be the base URL of a homeserver.
func IsBaseURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" &&
		u.RawQuery == "" && !u.ForceQuery && u.Fragment == "" && isPort(u.Port())
}

// IsServerName says whether s is a server name, with or without a port (Matrix
// spec, "Server name").
func IsServerName(s string) bool {
	return id.ValidateServerName(s) && id.ParseServerName(s).Port <= 65535
}

func isPort(s string) bool {
	port, err := strconv.ParseUint(s, 10, 16)
	return s == "" || err == nil && port > 0
}

// IsUserID says whether s is a full user ID, also one of the historical kind
// (Matrix spec, "Historical user IDs").
func IsUserID(s string) bool {
	localpart, server, err := id.UserID(s).ParseAndValidateRelaxed()
	return err == nil && localpart != "" && IsServerName(server) && IsText(s) && !HasBlank(s)
}

// IsReference tells what is meant as an alias or room ID from a name.
func IsReference(s string) bool {
	return strings.HasPrefix(s, "#") || strings.HasPrefix(s, "!")
}

// IsRoom says whether s is an alias or a room ID. Room IDs have no server name as
// of room version 12 (MSC4291).
func IsRoom(s string) bool {
	if !IsReference(s) || len(s) > MaxIdentifier || !IsText(s) {
		return false
	}
	localpart, server, hasServer := strings.Cut(s[1:], ":")
	if localpart == "" {
		return false
	}
	if !hasServer {
		return s[0] == '!'
	}
	return IsServerName(server)
}

// IsText says whether s is UTF-8 text without NUL.
func IsText(s string) bool {
	return utf8.ValidString(s) && !strings.Contains(s, "\x00")
}

// HasBlank says whether s holds a blank, a line break or a control character.
func HasBlank(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
}
