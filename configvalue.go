package matrix

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// An entry is a key of a YAML mapping and its value.
type entry struct {
	key   string
	line  int // of the key
	first int // the line where the mapping had the key before, or 0
	value *yaml.Node
}

// entries lists a mapping, with what it merges by <<. Of a key that stands both
// in the mapping and in what is merged, the mapping's own counts.
func entries(mapping *yaml.Node) []entry {
	var list []entry
	taken := map[string]bool{}
	merged := map[*yaml.Node]bool{} // an anchor may refer to itself
	var add func(*yaml.Node)
	add = func(mapping *yaml.Node) {
		if mapping.Kind != yaml.MappingNode || merged[mapping] {
			return
		}
		merged[mapping] = true
		own := map[string]int{}
		var merges []*yaml.Node
		for i := 0; i+1 < len(mapping.Content); i += 2 {
			key, value := resolve(mapping.Content[i]), resolve(mapping.Content[i+1])
			switch {
			case key.Tag == "!!merge" && value.Kind == yaml.SequenceNode:
				merges = append(merges, value.Content...)
				continue
			case key.Tag == "!!merge" && value.Kind == yaml.MappingNode:
				merges = append(merges, value)
				continue
			}
			e := entry{key.Value, mapping.Content[i].Line, own[key.Value], value}
			if e.first == 0 {
				own[e.key] = e.line
			}
			if e.first != 0 || !taken[e.key] {
				list = append(list, e)
			}
		}
		for key := range own {
			taken[key] = true
		}
		for _, m := range merges {
			add(resolve(m))
		}
	}
	add(mapping)
	return list
}

func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func decodeString(l *loader, e entry) (any, bool) { return l.decodeText(e, false) }
func decodeSecret(l *loader, e entry) (any, bool) { return l.decodeText(e, true) }

func (l *loader) decodeText(e entry, secret bool) (string, bool) {
	switch {
	case isString(e.value):
		text, _, ok := l.expand(e, secret)
		return text, ok
	case e.value.Kind == yaml.ScalarNode && e.value.ShortTag() != "!!null":
		l.expected(e, "a string, in quotes")
	default:
		l.expected(e, "a string")
	}
	return "", false
}

func decodeStateKey(l *loader, e entry) (any, bool) {
	if on, ok := boolOf(e.value); ok {
		return stateKeyOf(on), true
	}
	if !isString(e.value) {
		l.expected(e, "true, false or a state key")
		return nil, false
	}
	text, expanded, ok := l.expand(e, false)
	if !ok {
		return nil, false
	}
	switch _, isBool := yamlBools[text]; {
	case expanded && isBool:
		// opsdroid would have a state key of that name here, whoever wrote it
		// hardly meant that.
		l.fault(e.line, "%s: write true or false without a variable, or the state key of that name in quotes", e.key)
		return nil, false
	case strings.Contains(text, "\x00"):
		l.fault(e.line, "%s: a state key can't hold NUL", e.key)
		return nil, false
	case text == "":
		return PerKey, true // as opsdroid, to which an empty string is false
	}
	return StateKey(text), true
}

func stateKeyOf(single bool) StateKey {
	if single {
		return OneStateKey
	}
	return PerKey
}

func decodeSwitch(l *loader, e entry) (any, bool) {
	on, ok := boolOf(e.value)
	if !ok && isString(e.value) {
		text, expanded, expandedOK := l.expand(e, false)
		if !expandedOK {
			return nil, false
		}
		on, ok = yamlBools[text]
		ok = ok && expanded // in quotes it is a string, to opsdroid too
	}
	if !ok {
		l.expected(e, "true or false")
		return nil, false
	}
	if on {
		return On, true
	}
	return Off, true
}

func decodeDuration(l *loader, e entry) (any, bool) {
	text, ok := e.value.Value, true
	if isString(e.value) {
		if text, _, ok = l.expand(e, false); !ok {
			return nil, false
		}
	} else if tag := e.value.ShortTag(); tag != "!!int" && tag != "!!float" {
		l.expected(e, durationForms)
		return nil, false
	}
	d, err := parseDuration(text)
	if err != nil {
		l.fault(e.line, "%s: expected %s", e.key, durationForms)
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

func decodeRooms(l *loader, e entry) (any, bool) {
	if e.value.Kind != yaml.MappingNode {
		l.expected(e, "a mapping of names to rooms")
		return nil, false
	}
	rooms := map[string]string{}
	for _, room := range entries(e.value) {
		if !l.isFirst(room) {
			continue
		}
		reference, ok := l.decodeRoom(room)
		if !ok {
			reference = aRoom
		}
		rooms[room.key] = reference
		l.origin.rooms[room.key] = room.line
	}
	return rooms, true
}

// decodeRoom reads one room: an alias or room ID, or opsdroid's mapping with one.
func (l *loader) decodeRoom(room entry) (reference string, ok bool) {
	value := room
	if room.value.Kind == yaml.MappingNode {
		value.value = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
		for _, e := range entries(room.value) {
			if !l.isFirst(e) {
				continue
			}
			l.checkKnown(e, []string{"alias", "send_m_notice"})
			if e.key == "alias" {
				value = e
			}
		}
	}
	value.key = "rooms: " + strconv.Quote(room.key)
	if !isString(value.value) {
		l.expected(value, "an alias or a room ID")
		return "", false
	}
	reference, _, ok = l.expand(value, false)
	return reference, ok
}

// envName matches ${NAME}, $NAME and what looks like the latter.
var envName = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$([A-Za-z0-9_]+)`)

// shellName matches a NAME that needs no braces.
var shellName = regexp.MustCompile(`^_*[A-Z][A-Z0-9_]*$`)

// expand returns a string with variables taken from the environment, and whether
// there were any. LoadConfig's documentation has the rules.
func (l *loader) expand(e entry, secret bool) (text string, expanded, ok bool) {
	text = e.value.Value
	if e.value.Style&yaml.SingleQuotedStyle != 0 {
		return text, false, true
	}
	ok = true
	result := envName.ReplaceAllStringFunc(text, func(match string) string {
		name := strings.Trim(match, "${}")
		if match[1] != '{' && (!shellName.MatchString(name) || secret && match != text) {
			return match
		}
		value, set := l.env(name)
		if !set {
			l.fault(e.line, "%s: the environment variable %s is not set (in single quotes a $ stands for itself)", e.key, name)
			ok = false
		}
		expanded = true
		return value
	})
	return result, expanded, ok
}

func isString(node *yaml.Node) bool {
	// !envvar is opsdroid's own tag for a value that is taken from the environment.
	return node.Kind == yaml.ScalarNode && (node.ShortTag() == "!!str" || node.Tag == "!envvar")
}

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

// describe says what a node is, and nothing of what it holds.
func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch node.ShortTag() {
	case "!!str":
		return "a string"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "nothing"
	case "!!timestamp":
		return "a date"
	}
	return "a value with a tag"
}

// shownKey is a key as it may stand in an error. What goes beyond a plain word is
// cut off, as `password:secret` without a blank is a key to YAML.
func shownKey(key string) string {
	const most = 40
	end := strings.IndexFunc(key, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-<", r))
	})
	if end < 0 && len(key) <= most {
		return key
	}
	if end < 0 || end > most {
		end = most
	}
	return key[:end] + "…"
}

// closest returns the known key that was probably meant by a misspelt one, or "".
func closest(key string, known []string) string {
	best, meant := 3, ""
	if len(key) > 40 {
		return ""
	}
	key = strings.ReplaceAll(strings.ToLower(key), "-", "_")
	for _, k := range known {
		if d := distance(key, strings.ReplaceAll(k, "-", "_")); d < best && 2*d < len(k) {
			best, meant = d, k
		}
	}
	return meant
}

// distance is the Levenshtein distance: how many letters must be put in, taken out
// or changed to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
