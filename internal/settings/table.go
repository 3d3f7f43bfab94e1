// Package settings reads a struct from the configuration.yaml of an opsdroid bot,
// and collects all that is wrong with it in one error, each fault with its line.
//
// A [Table] says which keys there are and which fields they set; the package needs
// to know no more of the struct. Which values are right is for the caller to say,
// who adds what is not to the same [Faults], and who finds here what Matrix's
// identifiers look like.
package settings

import "slices"

// A Table says which keys a file may have.
type Table struct {
	Settings   []Setting
	PassedOver []string // keys that set nothing, as the name of a list item; any other is a fault
}

// A Setting is a key that sets a field of the struct.
type Setting struct {
	Key   string
	Field string
	In    Section
	As    Decoder
}

// A Section is a part of the file that has settings, or several.
type Section uint8

// The sections of a file. A setting in Either may stand in both with the same value.
const (
	Connectors Section = 1 << iota
	Databases
	Either = Connectors | Databases
)

func (s Section) String() string {
	if s == Connectors {
		return "connectors"
	}
	return "databases"
}

// sectionOf returns the section that a key begins.
func sectionOf(key string) (in Section, ok bool) {
	for _, in := range []Section{Connectors, Databases} {
		if key == in.String() {
			return in, true
		}
	}
	return 0, false
}

// key returns the key that sets a field.
func (t Table) key(field string) string {
	at := slices.IndexFunc(t.Settings, func(s Setting) bool { return s.Field == field })
	if at < 0 {
		panic("settings: no key sets the field " + field)
	}
	return t.Settings[at].Key
}

// keys lists all keys that a file may have.
func (t Table) keys() []string {
	var keys []string
	for _, s := range t.Settings {
		keys = append(keys, s.Key)
	}
	return append(keys, t.PassedOver...)
}
