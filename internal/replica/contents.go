package replica

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// A savedContent is the content of an event: what differs from the one that was saved
// before it, or all of it.
type savedContent struct {
	Whole      json.RawMessage            `json:",omitempty"`
	Unreadable []byte                     `json:",omitempty"` // all of a content that is no dictionary
	Changed    map[string]json.RawMessage `json:",omitempty"` // by name
	Gone       []string                   `json:",omitempty"` // names
	Write      json.RawMessage            `json:",omitempty"` // a dictionary of nothing else
	Twice      bool                       `json:",omitempty"`
}

// contents saves or restores contents that differ little from each other, one after the
// other.
type contents struct {
	layout   wire.Layout
	stateKey string
	before   wire.Dictionary
	event    *event // that holds it; nil: there is none
}

// A savedUpon is how the content of an event was saved last, as the difference from another's.
type savedUpon struct {
	before         *event
	emptied, blank bool // that one and this one: redaction changes what they hold
	content        savedContent
}

// saveEvent saves what an event holds, after those before it. It is worked out once: there are
// many of them, and they change little.
func (in *contents) saveEvent(e *event) savedContent {
	emptied := in.event != nil && in.event.blank
	last := e.saved.Load()
	if last == nil || last.before != in.event || last.blank != e.blank || last.emptied != emptied {
		last = &savedUpon{in.event, emptied, e.blank, in.save(e.dict, e.raw)}
		e.saved.Store(last)
	}
	if e.raw == nil {
		in.before, in.event = e.dict, e
	}
	return last.content
}

func (in *contents) save(dict wire.Dictionary, raw json.RawMessage) savedContent {
	if raw != nil {
		return savedContent{Unreadable: raw}
	}
	s := savedContent{Twice: dict.Twice}
	for _, key := range differences(in.before, dict) {
		if entry, ok := dict.Entries[key]; ok {
			if s.Changed == nil {
				s.Changed = make(map[string]json.RawMessage)
			}
			s.Changed[wire.EncodeKey(key)] = entry.Raw
		} else {
			s.Gone = append(s.Gone, wire.EncodeKey(key))
		}
	}
	if dict.Write != nil {
		s.Write = wire.Dictionary{Write: dict.Write}.Content()
	}
	content := dict.Content()
	if again, err := s.upon(in.before); err != nil || !bytes.Equal(again.Content(), content) { // other members, or names
		s = savedContent{Whole: content, Twice: dict.Twice}
	}
	in.before = dict
	return s
}

// restore returns a content; raw is one that is no dictionary.
func (in *contents) restore(s savedContent) (dict wire.Dictionary, raw json.RawMessage, err error) {
	switch {
	case len(s.Unreadable) > 0:
		if _, err = in.layout.Decode(in.stateKey, s.Unreadable); err == nil {
			return wire.Dictionary{}, nil, errors.New("it could not be read by the version that saved it, and can be now")
		}
		return wire.Dictionary{}, s.Unreadable, nil
	case s.Whole != nil:
		dict, err = in.layout.Decode(in.stateKey, s.Whole)
	default:
		dict, err = s.upon(in.before)
	}
	dict.Twice = s.Twice
	in.before = dict
	return dict, nil, err
}

// upon returns the content that differs from another one.
func (s savedContent) upon(before wire.Dictionary) (wire.Dictionary, error) {
	changes, err := byKey(s.Changed, func(raw json.RawMessage) json.RawMessage { return raw })
	if err != nil {
		return wire.Dictionary{}, err
	}
	gone := make(map[string]json.RawMessage, len(s.Gone)+len(changes))
	for _, name := range s.Gone {
		key, ok := wire.DecodeKey(name)
		if !ok {
			return wire.Dictionary{}, fmt.Errorf("%q is no key's name", name)
		}
		gone[key] = nil
	}
	for key, raw := range changes {
		gone[key] = raw
	}
	dict := before.With(gone)
	if s.Write != nil {
		write, err := wire.Layout{}.Decode("", s.Write)
		if err != nil {
			return wire.Dictionary{}, err
		}
		dict.Write = write.Write
	}
	return dict, nil
}
