package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// The names of the only member of an object that is not a value but stands for one.
const (
	pointerName    = "encrypted_val" // opsdroid's name
	reservedPrefix = "dev.joe."
	textName       = reservedPrefix + "json"
	bytesName      = reservedPrefix + "bytes"
)

// maxDepth is how deep a native value may nest. Homeservers and clients have
// limits of their own, opsdroid among them (Python's recursion limit), and an
// event that they can't read would break the room for them.
const maxDepth = 100

func reserved(name []byte) bool {
	return string(name) == pointerName || bytes.HasPrefix(name, []byte(reservedPrefix))
}

// Entry is one member of a dictionary. It is read-only: Raw and Value may share
// memory with each other and with other entries of the same content, never with
// anything that a caller of this package handed in.
type Entry struct {
	Raw     json.RawMessage // as it stands in the content, less white space
	Value   []byte          // the bytes that were set, unless Err; with Pointer, only once they are known
	Pointer string          // event ID of the encrypted event, if the value was sent encrypted
	Err     error           // why the entry can't be read: unknown or broken wrapper; an ErrBroken
}

// EncodeValue says how value stands in the content of a state event: natively
// as canonical JSON, or wrapped. A nil or empty value is not JSON. The result
// shares no memory with value.
func EncodeValue(value []byte) json.RawMessage {
	s, ok := scan(value, true)
	switch {
	case !ok || s.nul:
		return wrapBytes(value)
	case s.inexact || s.quoted || s.unsafe():
		return wrapText(value)
	}
	return s.out
}

// Shown gives a value as JSON from which DecodeValue takes it again: as it is, or as EncodeValue gives it where it
// is no JSON or looks like what stands for another value.
func Shown(value []byte) json.RawMessage {
	if s, ok := scan(value, false); ok && !s.lookalike {
		return value
	}
	return EncodeValue(value)
}

// EncodeSealed says how value stands inside an encrypted event. Canonical JSON
// does not bind what is encrypted, so any number stands natively that a reader
// who takes it for a float64 does not change.
func EncodeSealed(value []byte) json.RawMessage {
	s, ok := scan(value, true)
	switch {
	case !ok || s.nul:
		return wrapBytes(value)
	case s.lossy || s.unsafe():
		return wrapText(value)
	}
	return s.out
}

// unsafe reports whether the text must not stand natively anywhere.
func (s *scanner) unsafe() bool {
	return s.lookalike || s.duplicate || s.surrogate || s.depth > maxDepth
}

// EncodePointer says how a value stands in the state that was sent in the
// encrypted event eventID.
func EncodePointer(eventID string) json.RawMessage {
	return wrap(pointerName, eventID)
}

func wrapText(value []byte) json.RawMessage { return wrap(textName, value) }

func wrapBytes(value []byte) json.RawMessage {
	return wrap(bytesName, base64.StdEncoding.EncodeToString(value))
}

func wrap[T string | []byte](name string, text T) json.RawMessage {
	raw := make([]byte, 0, len(name)+len(text)+len(text)/8+len(`{"":""}`))
	raw = append(raw, `{"`...)
	raw = append(raw, name...)
	raw = append(raw, `":`...)
	raw = appendString(raw, text)
	return append(raw, '}')
}

// DecodeValue reads a value from the content of a state event. Native JSON
// keeps its numbers and the order of its members.
func DecodeValue(raw json.RawMessage) Entry {
	s, ok := scan(raw, false)
	if !ok {
		return Entry{Raw: bytes.Clone(raw), Err: errNotJSON}
	}
	return decodeEntry(s.out, s.lookalike)
}

// ErrBroken is what errors.Is finds where an entry can't be read, as nobody but who set it can change.
var ErrBroken = errors.New("the entry is broken")

// A broken is an ErrBroken that says why.
type broken struct{ error }

func (broken) Is(target error) bool { return target == ErrBroken }

var (
	errNotJSON    = broken{errors.New("the entry is not JSON")}
	errNotEventID = broken{fmt.Errorf("%q does not hold an event ID", pointerName)}
)

// decodeEntry reads a value that was scanned before.
func decodeEntry(raw json.RawMessage, lookalike bool) Entry {
	if !lookalike {
		return Entry{Raw: raw, Value: raw}
	}
	name, payload := onlyMember(raw)
	if name != pointerName {
		value, err := unwrap(name, payload)
		return Entry{Raw: raw, Value: value, Err: err}
	}
	eventID, ok := decodeString(payload)
	if !ok || eventID == "" {
		return Entry{Raw: raw, Err: errNotEventID}
	}
	return Entry{Raw: raw, Pointer: eventID}
}

// DecodeSealed reads a value from inside an encrypted event. Nothing in there
// is a pointer: what looks like one is a value that opsdroid wrote.
func DecodeSealed(raw json.RawMessage) ([]byte, error) {
	s, ok := scan(raw, false)
	if !ok {
		return nil, errNotJSON
	}
	if s.lookalike {
		if name, payload := onlyMember(s.out); name != pointerName {
			return unwrap(name, payload)
		}
	}
	return s.out, nil
}

// onlyMember takes an object apart that is known to have one member.
func onlyMember(raw json.RawMessage) (name string, payload json.RawMessage) {
	s, _ := scan(raw, false)
	m := s.members[0]
	return string(m.name), s.out[m.value:m.end]
}

func unwrap(name string, payload json.RawMessage) ([]byte, error) {
	text, ok := decodeString(payload)
	switch name {
	case textName:
		if !ok || !json.Valid([]byte(text)) {
			return nil, broken{fmt.Errorf("%q does not hold JSON as a string", name)}
		}
		return []byte(text), nil
	case bytesName:
		value, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil {
			return nil, broken{fmt.Errorf("%q does not hold standard base64 as a string", name)}
		}
		return value, nil
	}
	return nil, broken{fmt.Errorf("unknown wrapper %.64q: a newer version of this module may read it", name)}
}

// decodeString reads a string that UTF-8 can hold.
func decodeString(raw json.RawMessage) (text string, ok bool) {
	if raw[0] != '"' {
		return "", false
	}
	text = string(unquote(raw))
	return text, utf8.ValidString(text)
}
