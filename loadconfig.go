package matrix

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// LoadConfig reads a Config from an opsdroid configuration.yaml, as opsdroid does:
// from `connectors: matrix:` and `databases: matrix:`, each a mapping or an item
// `name: matrix` of the older list form.
//
//	key               section    value
//	homeserver        connectors string
//	mxid              connectors string, sets UserID
//	password          connectors string
//	access_token      connectors string
//	device_id         connectors string
//	device_name       connectors string
//	rooms             connectors mapping of names to an alias, a room ID or {alias: …}
//	store_path        connectors string
//	default_room      databases  string
//	single_state_key  databases  true, false or a string
//	should_encrypt    databases  true or false
//	event_type        either     string
//	timeout           either     duration ("45s", "1m30s") or number of seconds
//	store_key         either     string
//	recovery_key      either     string
//
// Other keys of opsdroid's (nick, enable_encryption, repo, …) are passed over, and
// so is all that stands outside the two sections. Every other key, a key in the
// section where opsdroid would not see it, and a value of the wrong type are
// faults; the error lists them all by file and line. As in opsdroid, quotes make
// a string of true and false, and an empty single_state_key means false.
//
// $NAME and ${NAME} in a value are taken from the environment, and one that is not
// set is a fault; a $ that is followed by no name stands for itself. NAME has
// capitals, digits and underscores, and in braces small letters too. As passwords
// hold dollar signs, in a password, token or key $NAME counts only if it is the whole
// value. Nothing is taken from the environment in single quotes. What was taken
// is not looked through again and is not read as YAML.
//
// What is wrong with the values themselves is said by Open; of a file that has other
// faults as well it is said here, so that one error lists them all.
func LoadConfig(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("matrix: can't read the configuration: %w", err)
	}
	return readConfig(path, data, os.LookupEnv)
}

// A section is a part of the file that has settings, or several.
type section uint8

const (
	connectors section = 1 << iota
	databases
	either = connectors | databases
)

func (s section) String() string {
	if s == connectors {
		return "connectors"
	}
	return "databases"
}

// A setting is a key that sets a field of Config.
type setting struct {
	key    string
	field  string
	in     section
	decode func(*loader, entry) (value any, ok bool) // reports what is wrong
}

var settings = []setting{
	{"homeserver", "Homeserver", connectors, decodeString},
	{"mxid", "UserID", connectors, decodeString},
	{"password", "Password", connectors, decodeSecret},
	{"access_token", "AccessToken", connectors, decodeSecret},
	{"device_id", "DeviceID", connectors, decodeString},
	{"device_name", "DeviceName", connectors, decodeString},
	{"rooms", "Rooms", connectors, decodeRooms},
	{"store_path", "StorePath", connectors, decodeString},
	{"default_room", "DefaultRoom", databases, decodeString},
	{"single_state_key", "SingleStateKey", databases, decodeStateKey},
	{"should_encrypt", "ShouldEncrypt", databases, decodeSwitch},
	{"event_type", "EventType", either, decodeString},
	{"timeout", "Timeout", either, decodeDuration},
	{"store_key", "StoreKey", either, decodeSecret},
	{"recovery_key", "RecoveryKey", either, decodeSecret},
}

// passedOver are the keys of opsdroid's Matrix modules, and of its modules in
// general, that mean nothing here. enable_encryption is among them: it says whether
// opsdroid loads its crypto library, and read as should_encrypt it would have
// values go out in the clear that e2ee.Enable is meant to protect.
var passedOver = []string{
	"nick", "room_specific_nicks", "send_m_notice", "enable_encryption",
	"name", "type", "enabled", "default", "module", "repo", "path", "gist", "branch", "key_path",
	"no-cache", "no-dep", "bot-name", "thinking-delay", "typing-delay",
}

func settingOf(field string) setting {
	for _, s := range settings {
		if s.field == field {
			return s
		}
	}
	panic("matrix: no setting for the field " + field)
}

// A loader reads one file.
type loader struct {
	env    func(name string) (string, bool)
	origin origin // with what has been read so far
	faults faults
}

func readConfig(file string, data []byte, env func(string) (string, bool)) (Config, error) {
	l := &loader{env: env, origin: origin{file: file, lines: map[string]int{}, rooms: map[string]int{}}}
	if root := l.parse(data); root != nil {
		l.readFile(root)
	}
	if len(l.faults) > 0 {
		l.addValueFaults()
		return Config{}, l.faults.err()
	}
	conf := l.origin.loaded
	conf.Rooms = maps.Clone(conf.Rooms) // the program may change it
	conf.origin = &l.origin
	return conf, nil
}

// aRoom stands in for a room that could not be read.
const aRoom = "!room:example.org"

// addValueFaults reports what Open would say of the settings that could be read.
// The others may only be hidden by a fault that is reported already, so something
// that is right stands in for them.
func (l *loader) addValueFaults() {
	right := reflect.ValueOf(Config{Homeserver: "example.org", UserID: "@bot:example.org", AccessToken: "token", StorePath: "keys", DefaultRoom: aRoom})
	conf := l.origin.loaded.withDefaults("")
	for _, s := range settings {
		if l.origin.lines[s.field] == 0 {
			reflect.ValueOf(&conf).Elem().FieldByName(s.field).Set(right.FieldByName(s.field))
		}
	}
	if conf.Rooms == nil && !isReference(conf.DefaultRoom) {
		conf.Rooms = map[string]string{conf.DefaultRoom: aRoom}
	}
	conf.origin = &l.origin
	l.faults = append(l.faults, conf.faults(false)...)
}

func (l *loader) fault(line int, format string, args ...any) {
	l.faults.add(line, position(l.origin.file, line), format, args...)
}

// parse returns the root of the file's only document, or nil after a fault.
func (l *loader) parse(data []byte) *yaml.Node {
	if !utf8.Valid(data) {
		valid := 0
		for rest := data; ; {
			r, size := utf8.DecodeRune(rest)
			if r == utf8.RuneError && size == 1 {
				break
			}
			valid, rest = valid+size, rest[size:]
		}
		l.fault(1+bytes.Count(data[:valid], []byte("\n")), "is not UTF-8 text")
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	if err := decoder.Decode(&first); errors.Is(err, io.EOF) {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
	} else if err != nil {
		l.syntaxFault(data, err)
		return nil
	}
	if err := decoder.Decode(&second); err == nil {
		l.fault(second.Line, "a second YAML document begins here; a configuration is one document")
		return nil
	} else if !errors.Is(err, io.EOF) {
		l.syntaxFault(data, err)
		return nil
	}
	return resolve(first.Content[0])
}

var (
	syntaxLine    = regexp.MustCompile(`^yaml: line (\d+): `)
	unknownAnchor = regexp.MustCompile(`^yaml: unknown anchor '(.*)' referenced$`)
)

func (l *loader) syntaxFault(data []byte, err error) {
	if m := unknownAnchor.FindStringSubmatch(err.Error()); m != nil {
		// The name is not shown: it may be a password that begins with *.
		before, _, _ := bytes.Cut(data, []byte("*"+m[1]))
		l.fault(1+bytes.Count(before, []byte("\n")), "is not YAML: a value that begins with * refers to an anchor, and there is none; put it in quotes")
		return
	}
	line := 0
	text := err.Error()
	if m := syntaxLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	l.fault(line, "is not YAML: %s", strings.TrimPrefix(text, "yaml: "))
}

func (l *loader) readFile(root *yaml.Node) {
	if root.Kind != yaml.MappingNode && root.ShortTag() != "!!null" {
		l.fault(root.Line, "expected a mapping with connectors and databases, found %s", describe(root))
		return
	}
	found := false
	for _, e := range entries(root) {
		for _, s := range []section{connectors, databases} {
			if e.key != s.String() {
				continue
			}
			if !l.isFirst(e) {
				continue
			}
			for _, module := range l.matrixModules(e) {
				found = true
				l.readModule(s, module)
			}
		}
	}
	if !found && len(l.faults) == 0 {
		l.fault(0, "has no matrix section, neither under connectors nor under databases")
	}
}

// matrixModules returns what stands under matrix in a section: one node, unless
// there is a fault.
func (l *loader) matrixModules(list entry) (modules []entry) {
	switch {
	case list.value.Kind == yaml.MappingNode:
		for _, e := range entries(list.value) {
			if e.key == "matrix" && l.isFirst(e) {
				modules = append(modules, e)
			}
		}
	case list.value.Kind == yaml.SequenceNode:
		for _, item := range list.value.Content {
			e := entry{key: "matrix", line: item.Line, value: resolve(item)}
			for _, name := range entries(e.value) {
				if name.key != "name" || name.value.Value != "matrix" {
					continue
				}
				if len(modules) > 0 {
					e.first = modules[0].line
				}
				if l.isFirst(e) {
					modules = append(modules, e)
				}
			}
		}
	case list.value.ShortTag() != "!!null":
		l.expected(list, "a mapping or a list")
	}
	return modules
}

func (l *loader) readModule(in section, module entry) {
	if module.value.ShortTag() == "!!null" {
		return
	}
	if module.value.Kind != yaml.MappingNode {
		l.expected(module, "a mapping")
		return
	}
	for _, e := range entries(module.value) {
		if l.isFirst(e) {
			l.readSetting(in, e)
		}
	}
}

func (l *loader) readSetting(in section, e entry) {
	at := slices.IndexFunc(settings, func(s setting) bool { return s.key == e.key })
	if at < 0 {
		l.checkKnown(e, slices.Concat(settingKeys(), passedOver))
		return
	}
	s := settings[at]
	if s.in&in == 0 {
		l.fault(e.line, "%s belongs under %v: matrix", s.key, s.in)
		return
	}
	value, ok := s.decode(l, e)
	if !ok {
		return
	}
	field := reflect.ValueOf(&l.origin.loaded).Elem().FieldByName(s.field)
	if line := l.origin.lines[s.field]; line != 0 && !reflect.DeepEqual(field.Interface(), value) {
		l.fault(e.line, "%s has another value in line %d", s.key, line)
		return
	}
	field.Set(reflect.ValueOf(value))
	l.origin.lines[s.field] = e.line
}

func settingKeys() []string {
	var keys []string
	for _, s := range settings {
		keys = append(keys, s.key)
	}
	return keys
}

// checkKnown reports a key that is not in known, and what it may have been meant as.
func (l *loader) checkKnown(e entry, known []string) {
	if slices.Contains(known, e.key) {
		return
	}
	hint := ""
	if meant := closest(e.key, known); meant != "" {
		hint = "; did you mean " + meant + "?"
	}
	l.fault(e.line, "unknown key %q%s", shownKey(e.key), hint)
}

// isFirst reports a key that its mapping had before.
func (l *loader) isFirst(e entry) bool {
	if e.first != 0 {
		l.fault(e.line, "%s is there already, in line %d", shownKey(e.key), e.first)
	}
	return e.first == 0
}

// expected reports a value of the wrong type, without showing it.
func (l *loader) expected(e entry, what string) {
	l.fault(e.line, "%s: expected %s, found %s", e.key, what, describe(e.value))
}
