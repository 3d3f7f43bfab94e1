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

// Other gives the state key under which opsdroid keeps key, if that is another one.
func (l Layout) Other(key string) (stateKey string, ok bool) {
	if !l.PerKey || key == ".." { // which leads its request elsewhere
		return "", false
	}
	stateKey = key
	if key == "." {
		stateKey = "" // as its request has it
	}
	return stateKey, stateKey != StateKey(key)
}

// belongs says whether an event under stateKey can hold key.
func (l Layout) belongs(key, stateKey string) bool {
	if !l.PerKey {
		return true
	}
	other, ok := l.Other(key)
	return l.Of(key) == stateKey || ok && other == stateKey
}

// Owns reports whether an event under stateKey can be the memory's at all. In
// the per-key layout only its content tells.
func (l Layout) Owns(stateKey string) bool {
	return l.PerKey || stateKey == l.StateKey
}

// Decode reads the content of the state event under stateKey. In the per-key
// layout the entries are those whose keys belong to stateKey, which is one but for
// what opsdroid puts under "". It gives ErrForeign if there is none, unless the
// content is {}, and for a dictionary that a memory has put there. What is no JSON
// object gives ErrMalformed, and so do two members of one name, because only one of
// them would survive.
// The result shares no memory with content.
func (l Layout) Decode(stateKey string, content json.RawMessage) (Dictionary, error) {
	if !l.Owns(stateKey) {
		return Dictionary{}, ErrForeign
	}
	d, err := decodeDictionary(content, func(key string) bool { return l.belongs(key, stateKey) })
	if err != nil || !l.PerKey {
		return d, err
	}
	if d.write != nil || len(d.Entries) == 0 && len(d.Rest) > 0 {
		return Dictionary{}, ErrForeign
	}
	return d, nil
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

// decodeDictionary reads the members whose keys belong as entries. All others are kept.
func decodeDictionary(content json.RawMessage, belongs func(key string) bool) (Dictionary, error) {
	s, err := scanObject(content)
	if err != nil {
		return Dictionary{}, err
	}
	d := Dictionary{Entries: make(map[string]Entry, len(s.members))}
	both := map[string]bool{} // keys that stand under both of their names
	for _, m := range s.members {
		name, raw := string(m.name), json.RawMessage(s.out[m.value:m.end:m.end])
		key, ok := DecodeKey(name)
		ok = ok && belongs(key)
		_, rest := d.Rest[name]
		_, twice := d.Entries[key]
		switch {
		case name == writeName && d.write == nil:
			d.Write, d.write = decodeWrite(raw), raw
		case name == writeName, rest, ok && twice && (both[key] || d.Name(key) == name):
			return Dictionary{}, fmt.Errorf("%w: two members of its content have the same name", ErrMalformed)
		case !ok:
			d.rest(name, raw)
		case ok && twice:
			both[key], d.Twice = true, true
			if name == EncodeKey(key) { // what another program wrote later counts
				continue
			}
			fallthrough
		default:
			d.Entries[key] = decodeEntry(raw, m.lookalike)
			d.call(key, name)
		}
	}
	return d, nil
}

// call notes the name of a key, if it is another one than this package would give it.
func (d *Dictionary) call(key, name string) {
	if name == EncodeKey(key) {
		return
	}
	if d.names == nil {
		d.names = map[string]string{}
	}
	d.names[key] = name
}

func (d *Dictionary) rest(name string, raw json.RawMessage) {
	if d.Rest == nil {
		d.Rest = map[string]json.RawMessage{}
	}
	d.Rest[name] = raw
}
