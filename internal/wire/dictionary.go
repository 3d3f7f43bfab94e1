package wire

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Dictionary is the content of one of the memory's state events. It is
// immutable once shared: With returns a changed copy.
type Dictionary struct {
	Entries map[string]Entry           // by memory key
	Rest    map[string]json.RawMessage // members whose name is no key; kept as they are when the dictionary is written again
	Write   *Write                     // what a memory put beside the keys; nil: nothing
	Twice   bool                       // a key stands under two names. The one that opsdroid gave it counts, and is written again
	write   json.RawMessage            // the same as Write as it stands in the content
	names   map[string]string          // under which keys stand that another program has named
}

// NamedAs returns the dictionary with its keys under the names that they have in another
// one, as a key that stands there already keeps its name. A key that does not stand there is
// named as in the first of others that holds it.
func (d Dictionary) NamedAs(o Dictionary, others ...Dictionary) Dictionary {
	d.names = o.names
	if len(others) == 0 {
		return d
	}
	shared := true // with o
	for key := range d.Entries {
		holds := func(other Dictionary) bool { _, ok := other.Entries[key]; return ok }
		if holds(o) {
			continue
		}
		if i := slices.IndexFunc(others, holds); i >= 0 {
			if shared {
				d.names, shared = make(map[string]string), false
				maps.Copy(d.names, o.names)
			}
			d.call(key, others[i].Name(key))
		}
	}
	return d
}

// Name gives the name of the member that holds a key.
func (d Dictionary) Name(key string) string {
	if name, ok := d.names[key]; ok {
		return name
	}
	return EncodeKey(key)
}

// With returns the dictionary with some entries changed. A change is what
// EncodeValue or EncodePointer gave, or another entry's Raw; a nil one deletes
// its key. The write of the former content is none of the new one's.
func (d Dictionary) With(changes map[string]json.RawMessage) Dictionary {
	entries := make(map[string]Entry, len(d.Entries)+len(changes))
	maps.Copy(entries, d.Entries)
	for key, raw := range changes {
		if raw == nil {
			delete(entries, key)
		} else {
			entries[key] = DecodeValue(raw)
		}
	}
	return Dictionary{Entries: entries, Rest: d.Rest, names: d.names}
}

// Content gives the dictionary as JSON for a state event: members sorted by
// name, nothing escaped that need not be, no white space.
func (d Dictionary) Content() json.RawMessage {
	write := d.write
	if write == nil && d.Write != nil { // it was signed here
		write = d.Write.encode(d.Write.ID)
	}
	content, _ := d.content(write)
	return content
}

// content gives the dictionary with a write, which begins at a position.
func (d Dictionary) content(write json.RawMessage) (content json.RawMessage, at int) {
	type part struct {
		name string
		raw  json.RawMessage
	}
	parts := make([]part, 0, len(d.Entries)+len(d.Rest)+1)
	for key, entry := range d.Entries {
		parts = append(parts, part{d.Name(key), entry.Raw})
	}
	for name, raw := range d.Rest {
		parts = append(parts, part{name, raw})
	}
	if write != nil {
		parts = append(parts, part{writeName, write})
	}
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.name, b.name) })
	size := len(`{}`)
	for _, p := range parts {
		size += len(p.name) + len(p.raw) + len(`"":,`)
	}
	content = append(make([]byte, 0, size), '{')
	for i, p := range parts {
		if i > 0 {
			content = append(content, ',')
		}
		content = appendString(content, p.name)
		content = append(content, ':')
		if p.name == writeName {
			at = len(content)
		}
		content = append(content, p.raw...)
	}
	return append(content, '}'), at
}
