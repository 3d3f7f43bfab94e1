package matrix

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// load reads a file bot.yaml with the text.
func load(t *testing.T, text string) (Config, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("bot.yaml", []byte(text), 0o600))
	return LoadConfig("bot.yaml")
}

func withoutOrigin(conf Config) Config {
	conf.origin = nil
	return conf
}

func TestLoadConfigOfOpsdroid(t *testing.T) {
	conf, err := LoadConfig(filepath.Join("testdata", "config", "opsdroid.yaml"))
	require.NoError(t, err)
	require.NoError(t, conf.validate(false))
	require.Equal(t, Config{
		Homeserver: "https://matrix.org",
		UserID:     "@username:matrix.org",
		Password:   "mypassword",
		DeviceID:   "opsdroid",
		DeviceName: "opsdroid",
		Rooms: map[string]string{
			"main":  "#matrix:matrix.org",
			"other": "#element-web:matrix.org",
			"quiet": "!ops:matrix.org",
		},
		DefaultRoom:    "main",
		SingleStateKey: OneStateKey,
		ShouldEncrypt:  Off,
		StorePath:      "path/to/store/",
	}, withoutOrigin(conf))
}

func TestLoadConfigOfOldOpsdroid(t *testing.T) {
	t.Setenv("MATRIX_USER", "@bot:example.org")
	t.Setenv("MATRIX_PASSWORD", "$MATRIX_USER: [not, YAML]")
	conf, err := LoadConfig(filepath.Join("testdata", "config", "opsdroid-list.yaml"))
	require.NoError(t, err)
	require.NoError(t, conf.validate(false))
	require.Equal(t, Config{
		Homeserver:     "matrix.example.org",
		UserID:         "@bot:example.org",
		Password:       "$MATRIX_USER: [not, YAML]",
		Rooms:          map[string]string{"main": "#bots:example.org"},
		SingleStateKey: PerKey,
	}, withoutOrigin(conf))
}

// A field without a key, or a key without its field, fails here.
func TestLoadConfigSetsEveryField(t *testing.T) {
	conf, err := LoadConfig(filepath.Join("testdata", "config", "all.yaml"))
	require.NoError(t, err)
	require.NoError(t, conf.validate(false))

	value := reflect.ValueOf(conf)
	unset := value.Type()
	exported := 0
	for i := range unset.NumField() {
		if field := unset.Field(i); field.IsExported() {
			exported++
			require.False(t, value.Field(i).IsZero(), "%s is not set by any key", field.Name)
		}
	}
	require.Len(t, table.Settings, exported)
	require.Equal(t, Config{
		Homeserver:     "https://matrix.example.org",
		UserID:         "@bot:example.org",
		Password:       "a password",
		AccessToken:    "syt_token",
		DeviceID:       "BOTDEVICE",
		DeviceName:     "A bot",
		Rooms:          map[string]string{"main": "#main:example.org", "ops": "!ops:example.org"},
		DefaultRoom:    "ops",
		SingleStateKey: "my.key",
		ShouldEncrypt:  Off,
		EventType:      "org.example.memory",
		Timeout:        90 * time.Second,
		Journal:        "memory.db",
		FollowUpgrades: Off,
		StorePath:      "keys",
		StoreKey:       "a passphrase",
		RecoveryKey:    "EsTc 1234",
	}, withoutOrigin(conf))
}

// What a file says of Config's own types.
func TestLoadConfigOfOwnTypes(t *testing.T) {
	for _, test := range []struct {
		connector, database string
		want                Config
	}{
		{database: "single_state_key: true", want: Config{SingleStateKey: OneStateKey}},
		{database: "single_state_key: false", want: Config{SingleStateKey: PerKey}},
		{database: "single_state_key: my.key", want: Config{SingleStateKey: "my.key"}},
		{database: `single_state_key: ""`, want: Config{SingleStateKey: PerKey}},
		{database: "should_encrypt: true", want: Config{ShouldEncrypt: On}},
		{database: "should_encrypt: false", want: Config{ShouldEncrypt: Off}},
		{connector: "enable_encryption: false", want: Config{ShouldEncrypt: On}},
	} {
		t.Run(test.connector+test.database, func(t *testing.T) {
			conf, err := load(t, "connectors:\n  matrix:\n    "+test.connector+"\ndatabases:\n  matrix:\n    "+test.database+"\n")
			require.NoError(t, err)
			require.Equal(t, test.want, withoutOrigin(conf))
		})
	}
}

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
			conf, err := load(t, test.text)
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
	conf, err := load(t, text)
	require.NoError(t, err)
	require.EqualError(t, conf.validate(false), `matrix: the configuration has 7 faults:
	bot.yaml: password: is missing, and so is access_token: the bot needs one of them to log in
	bot.yaml:3: homeserver: "ftp://example.org" is neither a base URL, as in https://matrix.example.org, nor a server name, as in example.org
	bot.yaml:4: mxid: "bot" is not a full user ID, as in @bot:example.org
	bot.yaml:5: store_key: needs a store_path, the folder that it locks, or a journal, whose values it seals
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

	conf, err = load(t, "databases: {matrix: }\n")
	require.NoError(t, err)
	require.EqualError(t, conf.validate(true), `matrix: bot.yaml: default_room: "main" is not a name in rooms`)
}

// However a file is broken, reading it ends, and no error shows the password.
func FuzzLoadConfig(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "config", "*.yaml"))
	require.NoError(f, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add("", string(data))
		f.Add(string(data), "")
	}
	f.Add("x: &x {timeout: x}\n", "    rooms: {<<: *x, a: {alias: $B}}\n")
	f.Add("- \"", "\": |\n")
	f.Add("a: &a [*a]\nb: &b {<<: [*b, *a]}\n", "    <<: *b\n--- \n")
	f.Setenv("HOST", "example.org")
	f.Setenv("B", "#b:example.org")
	file := filepath.Join(f.TempDir(), "bot.yaml")
	load := func(t *testing.T, text string) (Config, error) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return LoadConfig(file)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "s3cret pass$WORD"
		for _, quoted := range []string{secret, `"` + secret + `"`, "'" + secret + "'", "{" + secret + ": }", "*" + secret} {
			text := before + "connectors:\n  matrix:\n    password: " + quoted + "\n" + after
			conf, err := load(t, text)
			if err != nil {
				require.NotContains(t, err.Error(), secret)
				require.Equal(t, Config{}, conf)
				continue
			}
			// A text that is also there as something else may be shown as that.
			if conf.Password == secret && !strings.Contains(before+after, "s3cret") {
				if err := conf.validate(false); err != nil {
					require.NotContains(t, err.Error(), secret)
				}
			}
		}
		_, _ = load(t, after)
	})
}
