// Package wire translates between a memory's keys and values and the content
// of the Matrix events that hold them. All of it is pure functions.
//
// A value that is JSON and that every homeserver keeps as it is stands in a
// state event natively, as canonical JSON, so that people and opsdroid can
// read it. Any other value is wrapped in an object with one member, and comes
// back byte for byte:
//
//	{"dev.joe.json": "<the JSON text>"}    JSON that canonical JSON forbids or changes, or that looks like a wrapper
//	{"dev.joe.bytes": "<base64>"}          not JSON, or JSON that holds U+0000
//	{"encrypted_val": "$event_id"}         a pointer to the encrypted event that holds the value
//
// Canonical JSON is defined in the appendices of the Matrix specification:
// https://spec.matrix.org/latest/appendices/#canonical-json.
package wire
