package wire

import (
	"encoding/json"
	"strings"
)

// maxEvent is the most bytes an event may have in the federation format,
// signatures included, as canonical JSON:
// https://spec.matrix.org/latest/client-server-api/#size-limits.
const maxEvent = 65_536

// What a homeserver adds to an event before it measures it, at its largest: see
// https://spec.matrix.org/latest/rooms/v11/#event-format. The server's name,
// which comes twice, is counted apart. unsigned is what Synapse has there.
// Events of room versions 1 and 2 carry longer references; a homeserver may
// refuse an event there that fits by this measure.
const (
	maxAuthEvents = 10
	maxPrevEvents = 20

	eventReference = `"$0123456789012345678901234567890123456789012",`
	serverFields   = `{"auth_events":[],"content":,"depth":9007199254740991,` +
		`"hashes":{"sha256":"0123456789012345678901234567890123456789012"},` +
		`"origin":"","origin_server_ts":9007199254740991,"prev_events":[],"prev_state":[],` +
		`"room_id":,"sender":,` +
		`"signatures":{"":{"ed25519:a_key_id_as_long_as_they_come":"` +
		`01234567890123456789012345678901234567890123456789012345678901234567890123456789012345"}},` +
		`"state_key":,"type":,` +
		`"unsigned":{"age_ts":9007199254740991,"replaces_state":` + eventReference + `}}`

	reserve = len(serverFields) + (maxAuthEvents+maxPrevEvents)*len(eventReference)
)

// EventLimit gives how many bytes of content, as CanonicalSize counts them, fit
// in a state event: 65,536 less these four strings and less what the
// homeserver adds at most, about 2 KB.
func EventLimit(roomID, sender, eventType, stateKey string) int {
	_, server, _ := strings.Cut(sender, ":")
	limit := maxEvent - reserve - 2*len(server)
	for _, text := range []string{roomID, sender, eventType, stateKey} {
		limit -= len(appendString(nil, text))
	}
	return limit
}

// CanonicalSize gives the length of content as canonical JSON, which is what a
// homeserver counts.
func CanonicalSize(content json.RawMessage) int { return len(Canonical(content)) }

// NameSize gives the length of a member's name in canonical JSON.
func NameSize(name string) int { return len(appendString(make([]byte, 0, 64), name)) }
