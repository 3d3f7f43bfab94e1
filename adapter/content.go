package adapter

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"

	"maunium.net/go/mautrix/event"
)

// needed are the members without which an object says nothing: one of a wrong type
// takes the whole object with it.
var needed = []string{
	"msgtype", "body", // of a message
	"rel_type", "event_id", // of a relation
	"algorithm", "session_id", "ciphertext", // of an encrypted event
	"membership",
}

// What is mended: down to a user of the mentions of an edit, and under names that
// Matrix may have. That bounds the time.
const (
	mendedDepth = 4
	mendedName  = 255 // bytes
)

var errMalformed = errors.New("what it needs is missing or of a wrong type")

// parse parses the content of an event, also if it is parsed already. A sender may
// put anything into it, and homeservers hand it on, so whatever is of a wrong type
// and not needed is passed over. The error holds nothing of the content.
func parse(evt *event.Event) error {
	content := &evt.Content
	content.Parsed = nil
	err := content.ParseRaw(evt.Type)
	if err == nil || errors.Is(err, event.ErrUnsupportedContentType) {
		return err
	}
	kind := event.TypeMap[evt.Type]
	if kind == reflect.TypeFor[event.EncryptedEventContent]() {
		kind = reflect.TypeFor[encryptedMembers]()
	}
	mended := event.Content{VeryRaw: mend(kind, nil, content.VeryRaw, nil, mendedDepth)}
	if mended.VeryRaw == nil || mended.ParseRaw(evt.Type) != nil {
		content.Parsed = nil
		return errMalformed
	}
	content.Parsed = mended.Parsed
	return nil
}

// encryptedMembers is parsed member by member, and the event's own type only as a whole.
type encryptedMembers event.EncryptedEventContent

// mend returns JSON without what does not parse, where it stands between before and
// after in something of a kind; nil if nothing is left of it.
func mend(kind reflect.Type, before, raw, after []byte, depth int) json.RawMessage {
	parses := func(raw []byte) bool {
		return json.Unmarshal(slices.Concat(before, raw, after), reflect.New(kind).Interface()) == nil
	}
	if parses(raw) {
		return raw
	}
	var members map[string]json.RawMessage
	var elements []json.RawMessage
	switch {
	case depth == 0:
		return nil
	case json.Unmarshal(raw, &members) == nil:
		for name, member := range members {
			member = mendMember(kind, before, name, member, after, depth-1)
			if member == nil && slices.Contains(needed, name) {
				return nil
			}
			if members[name] = member; member == nil {
				delete(members, name)
			}
		}
		raw, _ = json.Marshal(members)
	case json.Unmarshal(raw, &elements) == nil:
		before, after := slices.Concat(before, []byte{'['}), slices.Concat([]byte{']'}, after)
		for i, element := range elements {
			elements[i] = mend(kind, before, element, after, depth-1)
		}
		raw, _ = json.Marshal(slices.DeleteFunc(elements, func(element json.RawMessage) bool { return element == nil }))
	}
	if !parses(raw) {
		return nil
	}
	return raw
}

func mendMember(kind reflect.Type, before []byte, name string, member, after []byte, depth int) json.RawMessage {
	quoted, err := json.Marshal(name)
	if err != nil || len(name) > mendedName {
		return nil
	}
	return mend(kind, slices.Concat(before, []byte{'{'}, quoted, []byte{':'}), member, slices.Concat([]byte{'}'}, after), depth)
}
