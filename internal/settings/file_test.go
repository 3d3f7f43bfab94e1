package settings_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/settings"
)

// A bot is a struct to read, with a field for each kind of value.
type bot struct {
	Homeserver, UserID, Password, DeviceID, DeviceName string
	Rooms                                              map[string]string
	DefaultRoom                                        string
	SingleStateKey                                     stateKey
	ShouldEncrypt                                      position
	Timeout                                            time.Duration
	StoreKey                                           string
}

type stateKey string

const (
	one  stateKey = ""
	each stateKey = "\x00each"
)

type position uint8

const (
	on position = iota
	off
)

const someRoom = "!some:room"

var table = settings.Table{
	Settings: []settings.Setting{
		{Key: "homeserver", Field: "Homeserver", In: settings.Connectors, As: settings.String},
		{Key: "mxid", Field: "UserID", In: settings.Connectors, As: settings.String},
		{Key: "password", Field: "Password", In: settings.Connectors, As: settings.Secret},
		{Key: "device_id", Field: "DeviceID", In: settings.Connectors, As: settings.String},
		{Key: "device_name", Field: "DeviceName", In: settings.Connectors, As: settings.String},
		{Key: "rooms", Field: "Rooms", In: settings.Connectors, As: settings.Rooms(someRoom)},
		{Key: "default_room", Field: "DefaultRoom", In: settings.Databases, As: settings.String},
		{Key: "single_state_key", Field: "SingleStateKey", In: settings.Databases, As: settings.BoolOrString(one, each, "state key")},
		{Key: "should_encrypt", Field: "ShouldEncrypt", In: settings.Databases, As: settings.Bool(on, off)},
		{Key: "timeout", Field: "Timeout", In: settings.Either, As: settings.Duration},
		{Key: "store_key", Field: "StoreKey", In: settings.Either, As: settings.Secret},
	},
	PassedOver: []string{"name", "enabled", "nick", "repo", "no-cache", "send_m_notice", "enable_encryption"},
}

// read reads a file with the text, and an environment of the given pairs.
func read(text string, env ...string) (bot, *settings.File, *settings.Faults) {
	var conf bot
	file, faults := table.Read("bot.yaml", []byte(text), func(name string) (string, bool) {
		for i := 0; i < len(env); i += 2 {
			if env[i] == name {
				return env[i+1], true
			}
		}
		return "", false
	}, &conf)
	return conf, file, faults
}

func TestReadShapes(t *testing.T) {
	want := bot{Homeserver: "a", UserID: "b", DefaultRoom: "c"}
	for name, text := range map[string]string{
		"mappings":   "connectors:\n  matrix: {homeserver: a, mxid: b}\ndatabases:\n  matrix: {default_room: c}\n",
		"lists":      "connectors:\n- name: shell\n- {name: matrix, homeserver: a, mxid: b}\n- other\ndatabases:\n- {name: redis}\n- {default_room: c, name: matrix}\n",
		"mixed":      "databases: [{name: matrix, default_room: c}]\nconnectors: {slack: , matrix: {homeserver: a, mxid: b}}\n",
		"JSON":       "{\n\t\"connectors\": {\"matrix\": {\"homeserver\": \"a\", \"mxid\": \"b\"}},\n\t\"databases\": {\"matrix\": {\"default_room\": \"c\"}}\n}\n",
		"byte order": "\ufeffconnectors:\n  matrix: {homeserver: a, mxid: b}\ndatabases:\n  matrix: {default_room: c}\n",
		"line ends":  "connectors:\r\n  matrix: {homeserver: a, mxid: b}\r\ndatabases:\r\n  matrix: {default_room: c}\r\n",
		"document":   "---\nconnectors: {matrix: {homeserver: a, mxid: b}}\ndatabases: {matrix: {default_room: c}}\n...\n",
		"aliases":    "x: &x\n  homeserver: a\ny: &y {mxid: b}\nz: &z c\nconnectors:\n  matrix: {<<: [*x, *y]}\ndatabases: {matrix: {default_room: *z}}\n",
		"overriding": "x: &x {homeserver: x, mxid: b}\ny: &y {homeserver: y}\nconnectors: {matrix: {<<: [*x, *y], homeserver: a}}\ndatabases: {matrix: {default_room: c}}\n",
		"others":     "connectors:\n  matrix: {homeserver: a, mxid: b}\n  matrix2: {module: opsdroid.connector.matrix}\ndatabases:\n- {name: mongo, matrix: x}\n- {name: matrix1, repo: x}\n- {name: matrix, default_room: c}\nmatrix: {of: another program}\n",
		"itself":     "connectors: {matrix: &m {<<: *m, homeserver: a, mxid: b}}\ndatabases: {matrix: {default_room: c}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			conf, _, faults := read(text)
			require.NoError(t, faults.Err())
			require.Equal(t, want, conf)
		})
	}
	for name, text := range map[string]string{
		"databases only":  "databases:\n  matrix:\n",
		"connectors only": "connectors:\n  matrix: {}\ndatabases:\n",
	} {
		t.Run(name, func(t *testing.T) {
			conf, _, faults := read(text)
			require.NoError(t, faults.Err())
			require.Equal(t, bot{}, conf)
		})
	}
}

func TestReadRefuses(t *testing.T) {
	connector := func(lines ...string) string {
		return "connectors:\n  matrix:\n    " + strings.Join(lines, "\n    ") + "\n"
	}
	database := func(lines ...string) string {
		return "databases:\n  matrix:\n    " + strings.Join(lines, "\n    ") + "\n"
	}
	const noSection = "bot.yaml: has no matrix section, neither under connectors nor under databases"
	const duration = `a time above zero, as in "45s" or a number of seconds`
	others := map[string]bot{ // what is read all the same
		"key twice":                {DeviceID: "a"},
		"different in both":        {StoreKey: "hunter2"},
		"unquoted alias":           {Rooms: map[string]string{"main": someRoom}},
		"room without alias":       {Rooms: map[string]string{"main": someRoom}},
		"misspelt room":            {Rooms: map[string]string{"main": "#a:b"}},
		"room twice":               {Rooms: map[string]string{"a": "#a:b"}},
		"unset variable in a room": {Rooms: map[string]string{"a": someRoom}},
	}
	for _, test := range []struct{ name, text, err string }{
		{"empty", "", noSection},
		{"comment", "# nothing\n", noSection},
		{"null", "---\n", noSection},
		{"no section", "connectors:\n  slack: {}\ndatabases: []\n", noSection},
		{"no mapping", "- a\n", "bot.yaml:1: expected a mapping with connectors and databases, found a list"},
		{"text", "hunter2\n", "bot.yaml:1: expected a mapping with connectors and databases, found a string"},
		{"section of text", "\nconnectors: hunter2\n", "bot.yaml:2: connectors: expected a mapping or a list, found a string"},
		{"matrix of text", "connectors:\n  matrix: password:hunter2\n", "bot.yaml:2: matrix: expected a mapping, found a string"},
		{"matrix twice", "connectors:\n  matrix: {}\n  matrix: {}\n", "bot.yaml:3: matrix is there already, in line 2"},
		{"matrix twice in a list", "connectors:\n- name: matrix\n- name: matrix\n", "bot.yaml:3: matrix is there already, in line 2"},
		{"section twice", "connectors: {matrix: }\nconnectors: {matrix: }\n", "bot.yaml:2: connectors is there already, in line 1"},
		{"misspelt section", connector("nick: a") + "database:\n  matrix:\n    single_state_key: false\n", `bot.yaml:4: unknown section "database"; did you mean databases?`},
		{"section in capitals", connector("nick: a") + "Databases:\n  matrix:\n    single_state_key: false\n", `bot.yaml:4: unknown section "Databases"; did you mean databases?`},
		{"module in capitals", connector("nick: a") + "databases:\n  Matrix:\n    single_state_key: false\n", `bot.yaml:5: unknown module "Matrix"; did you mean matrix?`},
		{"item in capitals", "connectors:\n- {name: Matrix}\n", `bot.yaml:2: unknown module "Matrix"; did you mean matrix?`},
		{"lost indent", connector("nick: a") + "databases:\nmatrix:\n  single_state_key: false\n", "bot.yaml:5: matrix stands beside connectors and databases: it belongs under one of them, further in"},
		{"mapping's item in a list", connector("nick: a") + "databases:\n- matrix:\n    single_state_key: false\n",
			"bot.yaml:5: an item of a list has its name as a member: write `- name: matrix` and the rest below it, or databases without dashes"},
		{"list of settings", connector("nick: a") + "databases:\n  matrix:\n  - single_state_key: false\n", "bot.yaml:5: matrix: expected a mapping, which has no dashes, found a list"},
		{"switched off", database("enabled: no"),
			"bot.yaml:3: enabled: false switches databases: matrix off, so that the bot has no memory in Matrix; take that line out, or leave the memory out of the program"},
		{"second document", "connectors: {matrix: }\n---\na: b\n", "bot.yaml:2: a second YAML document begins here; a configuration is one document"},
		{"not UTF-8", "connectors:\n  matrix:\n    nick: \xff\n", "bot.yaml:3: is not UTF-8 text"},
		{"tab", "connectors:\n\tmatrix:\n", "bot.yaml:2: is not YAML: found character that cannot start any token"},
		{"not YAML", "connectors: {matrix\n", "bot.yaml:1: is not YAML: did not find expected ',' or '}'"},
		{"not YAML at all", "\x7fELF\x01\n", "bot.yaml: is not YAML: control characters are not allowed"},
		{"password with star", connector("mxid: a", "password: *hunter2"),
			"bot.yaml:4: is not YAML: a value that begins with * refers to an anchor, and there is none; put it in quotes"},
		{"unknown key", connector("colour: hunter2"), `bot.yaml:3: unknown key "colour"`},
		{"misspelt key", connector("homesever: a"), `bot.yaml:3: unknown key "homesever"; did you mean homeserver?`},
		{"misspelt key of the other section", database("pasword: hunter2"), `bot.yaml:3: unknown key "pasword"; did you mean password?`},
		{"hyphens", database("Default-Room: a"), `bot.yaml:3: unknown key "Default-Room"; did you mean default_room?`},
		{"misspelt key of opsdroid's", connector("enable_encription: a"), `bot.yaml:3: unknown key "enable_encription"; did you mean enable_encryption?`},
		{"one word of a key", database("encrypt: hunter2"), `bot.yaml:3: unknown key "encrypt"; did you mean should_encrypt?`},
		{"key of old opsdroid", connector(`room: "#a:b"`), `bot.yaml:3: unknown key "room"; did you mean rooms?`},
		{"missing blank", connector("password:hunter2: a"), `bot.yaml:3: unknown key "password…"`},
		{"merging nothing", connector("<<: hunter2"), `bot.yaml:3: unknown key "<<"`},
		{"key twice", connector("device_id: a", "device_id: a"), "bot.yaml:4: device_id is there already, in line 3"},
		{"wrong section", database("homeserver: a"), "bot.yaml:3: homeserver belongs under connectors: matrix"},
		{"wrong section too", connector("default_room: a"), "bot.yaml:3: default_room belongs under databases: matrix"},
		{"different in both", connector("store_key: hunter2") + database("store_key: hunter3"), "bot.yaml:6: store_key has another value in line 3"},
		{"string of number", connector("password: 1234567"), "bot.yaml:3: password: expected a string, in quotes, found a number"},
		{"string of bool", connector("password: true"), "bot.yaml:3: password: expected a string, in quotes, found true or false"},
		{"string of date", connector("device_name: 2001-01-01"), "bot.yaml:3: device_name: expected a string, in quotes, found a date"},
		{"string of tag", connector("password: !hunter2 x"), "bot.yaml:3: password: expected a string, in quotes, found a value with a tag"},
		{"string of nothing", connector("password:"), "bot.yaml:3: password: expected a string, found nothing"},
		{"string of mapping", connector("password: {hunter2: }"), "bot.yaml:3: password: expected a string, found a mapping"},
		{"string of list", connector("password: [hunter2]"), "bot.yaml:3: password: expected a string, found a list"},
		{"bool of string", database(`should_encrypt: "false"`), "bot.yaml:3: should_encrypt: expected true or false, found a string"},
		{"bool of number", database("should_encrypt: 0"), "bot.yaml:3: should_encrypt: expected true or false, found a number"},
		{"bool of variable", database("should_encrypt: $SECRET"), "bot.yaml:3: should_encrypt: expected true or false, found a string"},
		{"state key of number", database("single_state_key: 1"), "bot.yaml:3: single_state_key: expected true, false or a state key, found a number"},
		{"state key with NUL", database(`single_state_key: "\0per-key"`), "bot.yaml:3: single_state_key: a state key can't hold NUL"},
		{"state key of variable", database("single_state_key: $FALSE"),
			"bot.yaml:3: single_state_key: write true or false without a variable, or the state key of that name in quotes"},
		{"timeout of list", database("timeout: [1]"), "bot.yaml:3: timeout: expected " + duration + ", found a list"},
		{"timeout of text", database("timeout: soon"), "bot.yaml:3: timeout: expected " + duration},
		{"timeout of zero", database("timeout: 0"), "bot.yaml:3: timeout: expected " + duration},
		{"timeout below zero", database("timeout: -5s"), "bot.yaml:3: timeout: expected " + duration},
		{"timeout without end", database("timeout: .inf"), "bot.yaml:3: timeout: expected " + duration},
		{"timeout of no number", database("timeout: .nan"), "bot.yaml:3: timeout: expected " + duration},
		{"timeout of ages", database("timeout: 1e300"), "bot.yaml:3: timeout: expected " + duration},
		{"rooms of list", connector(`rooms: ["#a:b"]`), "bot.yaml:3: rooms: expected a mapping of names to rooms, found a list"},
		{"rooms of nothing", connector("rooms:"), "bot.yaml:3: rooms: expected a mapping of names to rooms, found nothing"},
		{"unquoted alias", connector("rooms:", "  main: #a:b"), `bot.yaml:4: rooms: "main": expected an alias or a room ID, found nothing`},
		{"room without alias", connector("rooms:", "  main: {}"), `bot.yaml:4: rooms: "main": expected an alias or a room ID, found nothing`},
		{"misspelt room", connector("rooms:", "  main:", `    alas: "#a:b"`, `    alias: "#a:b"`), `bot.yaml:5: unknown key "alas"; did you mean alias?`},
		{"room twice", connector("rooms:", `  a: "#a:b"`, `  a: "#a:b"`), "bot.yaml:5: a is there already, in line 4"},
		{"unset variable", connector("password: $MATRIX_PASSWORD"),
			"bot.yaml:3: password: the environment variable MATRIX_PASSWORD is not set (in single quotes a $ stands for itself)"},
		{"unset variable in a room", connector("rooms:", `  a: "#a:${HOST}"`),
			`bot.yaml:4: rooms: "a": the environment variable HOST is not set (in single quotes a $ stands for itself)`},
		{"all at once, in order", database("timeout: x", "defaultroom: a") + connector("password: 1", "mxid: [a]"),
			"the configuration has 4 faults:" +
				"\n\tbot.yaml:3: timeout: expected " + duration +
				"\n\tbot.yaml:4: unknown key \"defaultroom\"; did you mean default_room?" +
				"\n\tbot.yaml:7: password: expected a string, in quotes, found a number" +
				"\n\tbot.yaml:8: mxid: expected a string, found a list"},
		{"merged twice, said once", "x: &x {timeout: x}\nconnectors: {matrix: {<<: *x}}\ndatabases: {matrix: *x}\n",
			"bot.yaml:1: timeout: expected " + duration},
	} {
		t.Run(test.name, func(t *testing.T) {
			conf, _, faults := read(test.text, "SECRET", "hunter2", "FALSE", "false")
			require.EqualError(t, faults.Err(), "matrix: "+test.err)
			require.Equal(t, others[test.name], conf)
			require.NotContains(t, faults.Err().Error(), "hunter")
		})
	}
}
