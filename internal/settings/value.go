package settings

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A Decoder makes the value of a field from what stands under a key. It reports
// what is wrong with that, and then ok is false.
type Decoder func(r *reader, e entry) (value any, ok bool)

// String decodes a string.
func String(r *reader, e entry) (value any, ok bool) { return r.decodeText(e, false) }

// Secret decodes a string that may hold dollar signs, as a password does: $NAME
// counts only if it is all of it.
func Secret(r *reader, e entry) (value any, ok bool) { return r.decodeText(e, true) }

func (r *reader) decodeText(e entry, secret bool) (string, bool) {
	switch {
	case isString(e.value):
		text, _, ok := r.expand(e, secret)
		return text, ok
	case e.value.Kind == yaml.ScalarNode && e.value.ShortTag() != "!!null":
		r.expected(e, "a string, in quotes")
	default:
		r.expected(e, "a string")
	}
	return "", false
}

// Bool returns a Decoder of true and false, as opsdroid reads them: in quotes they
// are strings.
func Bool[T any](yes, no T) Decoder {
	return func(r *reader, e entry) (any, bool) {
		on, ok := boolOf(e.value)
		if !ok && isString(e.value) {
			text, expanded, expandedOK := r.expand(e, false)
			if !expandedOK {
				return nil, false
			}
			on, ok = yamlBools[text]
			ok = ok && expanded // in quotes it is a string, to opsdroid too
		}
		switch {
		case !ok:
			r.expected(e, "true or false")
			return nil, false
		case on:
			return yes, true
		}
		return no, true
	}
}

// BoolOrString returns a Decoder of true, false or a string, which the noun names.
// An empty string is false, as in opsdroid.
func BoolOrString[T ~string](yes, no T, noun string) Decoder {
	return func(r *reader, e entry) (any, bool) {
		if on, ok := boolOf(e.value); ok && on {
			return yes, true
		} else if ok {
			return no, true
		}
		if !isString(e.value) {
			r.expected(e, "true, false or a "+noun)
			return nil, false
		}
		text, expanded, ok := r.expand(e, false)
		if !ok {
			return nil, false
		}
		switch _, isBool := yamlBools[text]; {
		case expanded && isBool:
			// opsdroid takes it for a string here, which hardly is what was meant.
			r.fault(e.line, "%s: write true or false without a variable, or the %s of that name in quotes", e.key, noun)
			return nil, false
		case strings.Contains(text, "\x00"):
			r.fault(e.line, "%s: a %s can't hold NUL", e.key, noun)
			return nil, false
		case text == "":
			return no, true
		}
		return T(text), true
	}
}

// Duration decodes a time.Duration above zero: "1m30s", or a number of seconds.
func Duration(r *reader, e entry) (value any, ok bool) {
	text := e.value.Value
	if isString(e.value) {
		if text, _, ok = r.expand(e, false); !ok {
			return nil, false
		}
	} else if tag := e.value.ShortTag(); tag != "!!int" && tag != "!!float" {
		r.expected(e, durationForms)
		return nil, false
	}
	d, err := parseDuration(text)
	if err != nil {
		r.fault(e.line, "%s: expected %s", e.key, durationForms)
		return nil, false
	}
	return d, true
}

const durationForms = `a time above zero, as in "45s" or a number of seconds`

func parseDuration(text string) (time.Duration, error) {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds < float64(1<<33) {
		text = strconv.FormatFloat(seconds, 'f', -1, 64) + "s"
	}
	d, err := time.ParseDuration(text)
	if err == nil && d <= 0 {
		err = errors.New("not above zero")
	}
	return d, err
}

// Rooms returns a Decoder of a map[string]string: names, and the alias or room ID
// of each, which may stand in a mapping `alias: …` as in opsdroid. For a room that
// can't be read it takes standIn, so that the name is known.
func Rooms(standIn string) Decoder {
	return func(r *reader, e entry) (any, bool) {
		if e.value.Kind != yaml.MappingNode {
			r.expected(e, "a mapping of names to rooms")
			return nil, false
		}
		rooms := map[string]string{}
		for _, room := range entries(e.value) {
			if !r.isFirst(room) {
				continue
			}
			key := memberKey(e.key, room.key)
			reference, ok := r.decodeRoom(key, room)
			if !ok {
				reference = standIn
			}
			rooms[room.key] = reference
			r.file.lines[key] = room.line
		}
		return rooms, true
	}
}

func (r *reader) decodeRoom(key string, room entry) (reference string, ok bool) {
	value := room
	if room.value.Kind == yaml.MappingNode {
		value.value = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
		for _, e := range entries(room.value) {
			if !r.isFirst(e) {
				continue
			}
			r.checkKnown(e, []string{"alias", "send_m_notice"})
			if e.key == "alias" {
				value = e
			}
		}
	}
	value.key = key
	if !isString(value.value) {
		r.expected(value, "an alias or a room ID")
		return "", false
	}
	reference, _, ok = r.expand(value, false)
	return reference, ok
}

func isString(node *yaml.Node) bool {
	if node.Kind != yaml.ScalarNode {
		return false
	}
	switch node.ShortTag() {
	case "!!str", "!envvar": // the latter is opsdroid's own, for a value that is taken from the environment
		return true
	case "!!int", "!!float":
		return node.Style == 0 && !yamlNumber.MatchString(node.Value)
	}
	return false
}

// yamlNumber matches the numbers of YAML 1.1 that are numbers in 1.2, too, as PyYAML reads
// them for opsdroid: 1e5 and 0o17 are strings.
var yamlNumber = regexp.MustCompile(`^(?:[-+]?(?:0b[01_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)` +
	`|[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?` +
	`|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)

// yamlBools are the booleans of YAML 1.1, which opsdroid reads. The YAML package
// knows YAML 1.2, where yes, no, on and off are strings.
var yamlBools = map[string]bool{
	"true": true, "True": true, "TRUE": true, "false": false, "False": false, "FALSE": false,
	"yes": true, "Yes": true, "YES": true, "no": false, "No": false, "NO": false,
	"on": true, "On": true, "ON": true, "off": false, "Off": false, "OFF": false,
}

func boolOf(node *yaml.Node) (value, ok bool) {
	if node.ShortTag() == "!!bool" || node.Kind == yaml.ScalarNode && node.Style == 0 {
		value, ok = yamlBools[node.Value]
	}
	return value, ok
}
