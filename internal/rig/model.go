package rig

import "slices"

// A Model is what a room should remember: for each key what may stand there. More
// than one value is possible after a write whose outcome is unknown.
type Model map[string][]string

// Absent stands in a model for "no value".
const Absent = ""

// Allows says whether a value, or none, may stand under a key.
func (m Model) Allows(key, value string) bool {
	if may, written := m[key]; written {
		return slices.Contains(may, value)
	}
	return value == Absent
}
