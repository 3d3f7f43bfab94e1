package matrix

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"maunium.net/go/mautrix/id"
)

const (
	// maxIdentifier is the most bytes that user IDs, aliases, room IDs, event
	// types and state keys may have (Matrix spec, "Size limits").
	maxIdentifier = 255

	minTimeout = time.Millisecond
	maxTimeout = time.Hour

	roomForms = "neither an alias, as in #ops:example.org, nor a room ID, as in !abc:example.org"
)

// validate returns one error that lists every fault of the Config. Neither
// homeserver nor credentials are required of a program that brings its own client.
func (c Config) validate(ownClient bool) error { return c.faults(ownClient).err() }

func (c Config) faults(ownClient bool) faults {
	c = c.withDefaults("")
	v := validator{conf: c}
	v.homeserver(ownClient)
	v.credentials(ownClient)
	v.rooms()
	v.layout()
	if c.ShouldEncrypt > Off {
		v.fault("ShouldEncrypt", "is neither On nor Off")
	}
	switch {
	case c.Timeout < 0:
		v.fault("Timeout", "%v is negative", c.Timeout)
	case c.Timeout < minTimeout, c.Timeout > maxTimeout:
		v.fault("Timeout", "%v is not between %v and %v", c.Timeout, minTimeout, maxTimeout)
	}
	if c.StoreKey != "" && c.StorePath == "" {
		v.fault("StoreKey", "needs a %s, the folder that it locks", v.name("StorePath"))
	}
	return v.faults
}

// A validator collects the faults of a Config. None of their texts holds a secret.
type validator struct {
	conf   Config
	faults faults
}

func (v *validator) homeserver(ownClient bool) {
	switch value := v.conf.Homeserver; {
	case value == "" && ownClient:
	case value == "":
		v.fault("Homeserver", "is missing: give the homeserver's base URL, or its name to look it up")
	case strings.Contains(value, "@"):
		// It may hold a password, so it is not shown.
		v.fault("Homeserver", "holds a user name or password; it is only a base URL or a server name")
	case !isBaseURL(value) && !isServerName(value):
		v.fault("Homeserver", "%q is neither a base URL, as in https://matrix.example.org, nor a server name, as in example.org", value)
	}
}

func (v *validator) credentials(ownClient bool) {
	c := v.conf
	if c.UserID != "" && !isUserID(c.UserID) {
		v.fault("UserID", "%q is not a full user ID, as in @bot:example.org", c.UserID)
	}
	switch {
	case ownClient:
	case c.AccessToken != "":
		if strings.ContainsFunc(c.AccessToken, isBlank) {
			v.fault("AccessToken", "holds a blank, a line break or a control character")
		}
	case c.Password == "":
		v.fault("Password", "is missing, and so is %s: the bot needs one of them to log in", v.name("AccessToken"))
	case c.UserID == "":
		v.fault("UserID", "is missing: a login by password needs the full user ID, as in @bot:example.org")
	}
}

func (v *validator) rooms() {
	c := v.conf
	for _, name := range slices.Sorted(maps.Keys(c.Rooms)) {
		if name == "" || isReference(name) {
			v.roomFault(name, "a name for a room is not empty and does not start with # or !, as aliases and room IDs do")
		}
		if room := c.Rooms[name]; !isRoom(room) {
			v.roomFault(name, "%q is %s", room, roomForms)
		}
	}
	_, named := c.Rooms[c.DefaultRoom]
	switch {
	case named, isRoom(c.DefaultRoom):
	case isReference(c.DefaultRoom):
		v.fault("DefaultRoom", "%q is %s", c.DefaultRoom, roomForms)
	default:
		v.fault("DefaultRoom", "%q is not a name in %s", c.DefaultRoom, v.name("Rooms"))
	}
}

func (v *validator) layout() {
	switch eventType := v.conf.EventType; {
	case len(eventType) > maxIdentifier:
		v.fault("EventType", "has %d bytes; an event type has at most %d", len(eventType), maxIdentifier)
	case !isText(eventType):
		v.fault("EventType", "is not UTF-8 text without NUL")
	case strings.HasPrefix(eventType, "m."):
		v.fault("EventType", "%q is one of Matrix's own: they start with m. and mean something to every client", eventType)
	}
	switch key := string(v.conf.SingleStateKey); {
	case key == string(PerKey):
	case len(key) > maxIdentifier:
		v.fault("SingleStateKey", "has %d bytes; a state key has at most %d", len(key), maxIdentifier)
	case !isText(key):
		v.fault("SingleStateKey", "is not UTF-8 text without NUL")
	case strings.HasPrefix(key, "@"):
		v.fault("SingleStateKey", "%q starts with @, which homeservers keep for user IDs", key)
	}
}

func (v *validator) fault(field, format string, args ...any) {
	line, where := v.conf.origin.place(v.conf, field)
	v.faults.add(line, where, format, args...)
}

func (v *validator) roomFault(name, format string, args ...any) {
	line, where := v.conf.origin.placeOfRoom(v.conf, name)
	v.faults.add(line, where, format, args...)
}

// name is what the reader knows a field by: its key in a file, or its name in Go.
func (v *validator) name(field string) string {
	if v.conf.origin != nil {
		return settingOf(field).key
	}
	return field
}

// An origin says which file a Config was read from, and where each setting
// stands in it. A nil origin is that of a Config written in Go.
type origin struct {
	file   string
	lines  map[string]int // by field
	rooms  map[string]int // by name
	loaded Config         // as it was read: a field that differs was set in Go
}

// place returns the line that a field was set in, or 0, and a text that leads there.
func (o *origin) place(c Config, field string) (line int, where string) {
	if o == nil || !sameField(field, c, o.loaded.withDefaults("")) {
		return 0, "Config." + field
	}
	line = o.lines[field]
	return line, position(o.file, line) + ": " + settingOf(field).key
}

// placeOfRoom is place for one of Rooms.
func (o *origin) placeOfRoom(c Config, name string) (line int, where string) {
	if o == nil || o.rooms[name] == 0 || o.loaded.Rooms[name] != c.Rooms[name] {
		return 0, fmt.Sprintf("Config.Rooms[%q]", name)
	}
	line = o.rooms[name]
	return line, position(o.file, line) + ": " + settingOf("Rooms").key + ": " + strconv.Quote(name)
}

func position(file string, line int) string {
	if line == 0 {
		return file
	}
	return file + ":" + strconv.Itoa(line)
}

func sameField(field string, a, b Config) bool {
	return reflect.DeepEqual(
		reflect.ValueOf(a).FieldByName(field).Interface(),
		reflect.ValueOf(b).FieldByName(field).Interface())
}

// faults is what is wrong with a Config.
type faults []fault

type fault struct {
	line int // in the file, or 0
	text string
}

func (f *faults) add(line int, where, format string, args ...any) {
	*f = append(*f, fault{line, where + ": " + fmt.Sprintf(format, args...)})
}

// err returns the faults as one error, in the order of their lines, or nil.
func (f faults) err() error {
	slices.SortStableFunc(f, func(a, b fault) int { return cmp.Compare(a.line, b.line) })
	f = slices.Compact(f) // a section that is merged twice has its faults twice
	switch len(f) {
	case 0:
		return nil
	case 1:
		return errors.New("matrix: " + f[0].text)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "matrix: the configuration has %d faults:", len(f))
	for _, fault := range f {
		text.WriteString("\n\t" + fault.text)
	}
	return errors.New(text.String())
}

func isBaseURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" &&
		u.RawQuery == "" && !u.ForceQuery && u.Fragment == "" && isPort(u.Port())
}

func isServerName(s string) bool {
	if !id.ValidateServerName(s) {
		return false
	}
	return id.ParseServerName(s).Port <= 65535
}

func isPort(s string) bool {
	port, err := strconv.ParseUint(s, 10, 16)
	return s == "" || err == nil && port > 0
}

func isUserID(s string) bool {
	localpart, server, err := id.UserID(s).ParseAndValidateRelaxed()
	return err == nil && localpart != "" && isServerName(server) && isText(s) && !strings.ContainsFunc(s, isBlank)
}

// isReference tells what is meant as an alias or room ID from a name.
func isReference(s string) bool {
	return strings.HasPrefix(s, "#") || strings.HasPrefix(s, "!")
}

// isRoom says whether s is an alias or a room ID. Room IDs have no server name as
// of room version 12 (MSC4291).
func isRoom(s string) bool {
	if !isReference(s) || len(s) > maxIdentifier || !isText(s) {
		return false
	}
	localpart, server, hasServer := strings.Cut(s[1:], ":")
	if localpart == "" {
		return false
	}
	if !hasServer {
		return s[0] == '!'
	}
	return isServerName(server)
}

func isText(s string) bool {
	return utf8.ValidString(s) && !strings.Contains(s, "\x00")
}

func isBlank(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r)
}
