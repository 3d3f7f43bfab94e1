package matrix

import (
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A file that can't be read as a whole is judged as far as it can, so that nobody
// mends one fault and is then told of the next.
func TestLoadConfigJudgesWhatItCouldRead(t *testing.T) {
	const rooms = "neither an alias, as in #ops:example.org, nor a room ID, as in !abc:example.org"
	for _, test := range []struct{ name, text, err string }{
		{"both kinds of faults", `connectors:
  matrix:
    homserver: https://matrix.example.org
    mxid: bot
    password: [hunter2]
    device_id: 12
    rooms:
      main: bots
databases:
  matrix:
    default_rooom: main
    single_state_key: "@x"
    timeout: soon
`, `the configuration has 8 faults:
	bot.yaml:3: unknown key "homserver"; did you mean homeserver?
	bot.yaml:4: mxid: "bot" is not a full user ID, as in @bot:example.org
	bot.yaml:5: password: expected a string, found a list
	bot.yaml:6: device_id: expected a string, in quotes, found a number
	bot.yaml:8: rooms: "main": "bots" is ` + rooms + `
	bot.yaml:11: unknown key "default_rooom"; did you mean default_room?
	bot.yaml:12: single_state_key: "@x" starts with @, which homeservers keep for user IDs
	bot.yaml:13: timeout: expected a time above zero, as in "45s" or a number of seconds`},

		{"of rooms, those that could be read", `connectors:
  matrix:
    rooms:
      main: 1
      ops: ops
databases:
  matrix:
    default_room: main
`, `the configuration has 2 faults:
	bot.yaml:4: rooms: "main": expected an alias or a room ID, found a number
	bot.yaml:5: rooms: "ops": "ops" is ` + rooms},
		{"a default room that is not among them", `connectors:
  matrix:
    nickname: a
    rooms:
      main: "#main:example.org"
databases:
  matrix:
    default_room: ops
`, `the configuration has 2 faults:
	bot.yaml:3: unknown key "nickname"
	bot.yaml:8: default_room: "ops" is not a name in rooms`},

		// What may only look wrong because of another fault is not mentioned.
		{"misspelt rooms", `connectors:
  matrix:
    room:
      ops: "#ops:example.org"
databases:
  matrix:
    default_room: ops
`, `bot.yaml:3: unknown key "room"; did you mean rooms?`},
		{"no rooms, and the default of default_room", `connectors:
  matrix:
    room:
      main: "#main:example.org"
databases:
  matrix:
    default_room: ""
`, `bot.yaml:3: unknown key "room"; did you mean rooms?`},
		{"a folder that could not be read", `connectors:
  matrix:
    mxid: ""
    password: ""
    access_token: 1
    store_path: [keys]
    store_key: hunter2
`, `the configuration has 2 faults:
	bot.yaml:5: access_token: expected a string, in quotes, found a number
	bot.yaml:6: store_path: expected a string, found a list`},
	} {
		t.Run(test.name, func(t *testing.T) {
			conf, err := load(test.text)
			require.EqualError(t, err, "matrix: "+test.err)
			require.Equal(t, Config{}, conf)
		})
	}
}

func TestLoadConfigMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "configuration.yaml")
	_, err := LoadConfig(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "matrix: can't read the configuration: ")
	require.ErrorContains(t, err, path)

	_, err = LoadConfig(filepath.Dir(path))
	require.Error(t, err, "a folder is no file")
}

// Open says what is wrong with a setting, and where it came from.
func TestValidateNamesFileAndLine(t *testing.T) {
	text := `connectors:
  matrix:
    homeserver: ftp://example.org
    mxid: bot
    store_key: hunter2
    rooms:
      ops: "#ops"
      dev: "#dev:example.org"
databases:
  matrix:
    default_room: main
    timeout: 12h
`
	conf, err := load(text)
	require.NoError(t, err)
	require.EqualError(t, conf.validate(false), `matrix: the configuration has 7 faults:
	bot.yaml: password: is missing, and so is access_token: the bot needs one of them to log in
	bot.yaml:3: homeserver: "ftp://example.org" is neither a base URL, as in https://matrix.example.org, nor a server name, as in example.org
	bot.yaml:4: mxid: "bot" is not a full user ID, as in @bot:example.org
	bot.yaml:5: store_key: needs a store_path, the folder that it locks
	bot.yaml:7: rooms: "ops": "#ops" is neither an alias, as in #ops:example.org, nor a room ID, as in !abc:example.org
	bot.yaml:11: default_room: "main" is not a name in rooms
	bot.yaml:12: timeout: 12h0m0s is not between 1ms and 1h0m0s`)
	require.Equal(t, conf.validate(false), conf.withDefaults("bender").validate(false), "defaults change no place")

	// What the program changes after reading the file is its own.
	conf.Homeserver, conf.UserID, conf.Password, conf.Timeout = "nowhere/", "@bot:example.org", "hunter2", 0
	conf.StorePath = "keys"
	conf.Rooms["ops"] = "ops"
	require.EqualError(t, conf.validate(false), `matrix: the configuration has 3 faults:
	Config.Homeserver: "nowhere/" is neither a base URL, as in https://matrix.example.org, nor a server name, as in example.org
	Config.Rooms["ops"]: "ops" is neither an alias, as in #ops:example.org, nor a room ID, as in !abc:example.org
	bot.yaml:11: default_room: "main" is not a name in rooms`)

	conf, err = load("databases: {matrix: }\n")
	require.NoError(t, err)
	require.EqualError(t, conf.validate(true), `matrix: bot.yaml: default_room: "main" is not a name in rooms`)
}
