package wire

import (
	"encoding/json"
	"errors"
	"fmt"
)

var (
	// ErrForeign says that an event is not of this memory, which has no
	// business with it.
	ErrForeign = errors.New("the state event does not belong to this memory")

	// ErrMalformed says that an event is of this memory's type and state key
	// but holds something else than a memory writes.
	ErrMalformed = errors.New("the state event does not hold a dictionary")
)

// Layout says which state events hold a memory. The zero Layout is opsdroid's
// default: one dictionary under the empty state key.
type Layout struct {
	PerKey   bool   // a state event for each key
	StateKey string // of the one dictionary, if not PerKey
}

// Of gives the state key of the event that holds key.
func (l Layout) Of(key string) string {
	if l.PerKey {
		return StateKey(key)
	}
	return l.StateKey
}

// Owns reports whether an event under stateKey can be the memory's at all. In
// the per-key layout only its content tells.
func (l Layout) Owns(stateKey string) bool {
	return l.PerKey || stateKey == l.StateKey
}

// Decode reads the content of the state event under stateKey. In the per-key
// layout it gives ErrForeign unless the content is {} or exactly one entry
// whose key belongs to stateKey. What is no JSON object gives ErrMalformed, and
// so do two members of one name, because only one of them would survive.
// The result shares no memory with content.
func (l Layout) Decode(stateKey string, content json.RawMessage) (Dictionary, error) {
	if !l.Owns(stateKey) {
		return Dictionary{}, ErrForeign
	}
	d, err := decodeDictionary(content)
	if err != nil || !l.PerKey || len(d.Entries)+len(d.Rest) == 0 && d.write == nil {
		return d, err
	}
	for key := range d.Entries {
		if len(d.Entries)+len(d.Rest) == 1 && d.write == nil && StateKey(key) == stateKey {
			return d, nil
		}
	}
	return Dictionary{}, ErrForeign
}

// DecodeLegacy is Decode for events of the older type opsdroid.database. There,
// a per-key event's state key is the key, and its content is the value itself;
// {} means that there is none. What stands under the empty state key is the
// dictionary of the other layout, and gives ErrForeign.
func (l Layout) DecodeLegacy(stateKey string, content json.RawMessage) (Dictionary, error) {
	if !l.PerKey {
		return l.Decode(stateKey, content)
	}
	if stateKey == "" {
		return Dictionary{}, ErrForeign
	}
	s, err := scanObject(content)
	if err != nil {
		return Dictionary{}, err
	}
	entries := map[string]Entry{}
	if len(s.members) > 0 {
		entries[stateKey] = decodeEntry(s.out, s.lookalike)
	}
	return Dictionary{Entries: entries}, nil
}

func scanObject(content json.RawMessage) (scanner, error) {
	s, ok := scan(content, false)
	if !ok || s.out[0] != '{' {
		return s, fmt.Errorf("%w: its content is no JSON object", ErrMalformed)
	}
	return s, nil
}

func decodeDictionary(content json.RawMessage) (Dictionary, error) {
	s, err := scanObject(content)
	if err != nil {
		return Dictionary{}, err
	}
	d := Dictionary{Entries: make(map[string]Entry, len(s.members))}
	for _, m := range s.members {
		name := string(m.name)
		raw := json.RawMessage(s.out[m.value:m.end:m.end])
		if name == writeName {
			d.Write, d.write = decodeWrite(raw), raw
			continue
		}
		if key, ok := DecodeKey(name); ok && name == EncodeKey(key) {
			d.Entries[key] = decodeEntry(raw, m.lookalike)
		} else {
			d.rest(name, raw)
		}
	}
	named := len(d.Entries) + len(d.Rest)
	if d.write != nil {
		named++
	}
	if named < len(s.members) {
		return Dictionary{}, fmt.Errorf("%w: two members of its content have the same name", ErrMalformed)
	}
	for name, raw := range d.Rest { // the second name of a key counts where the first is not there
		key, ok := DecodeKey(name)
		if _, twice := d.Entries[key]; ok && !twice {
			d.Entries[key] = DecodeValue(raw)
			delete(d.Rest, name)
		}
	}
	return d, nil
}

func (d *Dictionary) rest(name string, raw json.RawMessage) {
	if d.Rest == nil {
		d.Rest = map[string]json.RawMessage{}
	}
	d.Rest[name] = raw
}
