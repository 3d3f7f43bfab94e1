package matrix

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// load reads a file with the text, and an environment of the given pairs.
func load(text string, env ...string) (Config, error) {
	return readConfig("bot.yaml", []byte(text), func(name string) (string, bool) {
		for i := 0; i < len(env); i += 2 {
			if env[i] == name {
				return env[i+1], true
			}
		}
		return "", false
	})
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
	require.Len(t, settings, exported)
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
		StorePath:      "keys",
		StoreKey:       "a passphrase",
		RecoveryKey:    "EsTc 1234",
	}, withoutOrigin(conf))
}

func TestLoadConfigValues(t *testing.T) {
	env := []string{
		"HOST", "matrix.example.org", "_A1", "one", "lower", "small", "EMPTY", "", "NO", "no",
		"TIME", "30", "KEY", "my.key", "AGAIN", "$HOST", "LINES", "a\nhomeserver: evil",
	}
	for _, test := range []struct {
		name, connector, database string
		want                      Config
	}{
		{name: "nothing"},
		{name: "single_state_key true", database: "single_state_key: true", want: Config{SingleStateKey: OneStateKey}},
		{name: "single_state_key false", database: "single_state_key: False", want: Config{SingleStateKey: PerKey}},
		{name: "single_state_key of YAML 1.1", database: "single_state_key: OFF", want: Config{SingleStateKey: PerKey}},
		{name: "single_state_key string", database: "single_state_key: my.key", want: Config{SingleStateKey: "my.key"}},
		{name: "single_state_key in quotes", database: `single_state_key: "true"`, want: Config{SingleStateKey: "true"}},
		{name: "single_state_key no in quotes", database: `single_state_key: 'no'`, want: Config{SingleStateKey: "no"}},
		{name: "single_state_key as tagged", database: `single_state_key: !!str true`, want: Config{SingleStateKey: "true"}},
		{name: "single_state_key empty, as opsdroid", database: `single_state_key: ""`, want: Config{SingleStateKey: PerKey}},
		{name: "single_state_key of the environment", database: `single_state_key: $KEY`, want: Config{SingleStateKey: "my.key"}},
		{name: "should_encrypt on", database: "should_encrypt: On", want: Config{ShouldEncrypt: On}},
		{name: "should_encrypt off", database: "should_encrypt: false", want: Config{ShouldEncrypt: Off}},
		{name: "should_encrypt of the environment", database: "should_encrypt: $NO", want: Config{ShouldEncrypt: Off}},
		{name: "enable_encryption is not should_encrypt", connector: "enable_encryption: false", want: Config{ShouldEncrypt: On}},
		{name: "timeout duration", database: "timeout: 1m30s", want: Config{Timeout: 90 * time.Second}},
		{name: "timeout number", database: "timeout: 20", want: Config{Timeout: 20 * time.Second}},
		{name: "timeout fraction", database: "timeout: 0.5", want: Config{Timeout: time.Second / 2}},
		{name: "timeout of the environment", database: "timeout: $TIME", want: Config{Timeout: 30 * time.Second}},
		{name: "timeout beside the connector", connector: "timeout: 5s", want: Config{Timeout: 5 * time.Second}},
		{name: "the same in both", connector: "timeout: 5s", database: "timeout: 5", want: Config{Timeout: 5 * time.Second}},
		{name: "rooms", connector: `rooms: {a: "#a:b", b: {alias: "!b"}, 7: "#7:b"}`,
			want: Config{Rooms: map[string]string{"a": "#a:b", "b": "!b", "7": "#7:b"}}},
		{name: "merged rooms", connector: `rooms: {<<: {a: "#a:b", b: "#b:b"}, b: "#own:b"}`,
			want: Config{Rooms: map[string]string{"a": "#a:b", "b": "#own:b"}}},
		{name: "variable", connector: "homeserver: $HOST", want: Config{Homeserver: "matrix.example.org"}},
		{name: "variable in braces", connector: "homeserver: ${HOST}", want: Config{Homeserver: "matrix.example.org"}},
		{name: "variable within", connector: `homeserver: "https://$HOST:8448"`, want: Config{Homeserver: "https://matrix.example.org:8448"}},
		{name: "variables", connector: `device_name: $_A1-${_A1}x${lower}`, want: Config{DeviceName: "one-onexsmall"}},
		{name: "variable in a room", connector: `rooms: {a: "#a:$HOST", b: {alias: "#b:$HOST"}}`,
			want: Config{Rooms: map[string]string{"a": "#a:matrix.example.org", "b": "#b:matrix.example.org"}}},
		{name: "opsdroid's tag", connector: `homeserver: !envvar $HOST`, want: Config{Homeserver: "matrix.example.org"}},
		{name: "empty variable", connector: "homeserver: $EMPTY"},
		{name: "not looked through again", connector: "homeserver: $AGAIN", want: Config{Homeserver: "$HOST"}},
		{name: "not read as YAML", connector: "password: $LINES", want: Config{Password: "a\nhomeserver: evil"}},
		{name: "no variable in single quotes", connector: "homeserver: '${HOST}$HOST'", want: Config{Homeserver: "${HOST}$HOST"}},
		{name: "no name after the dollar", connector: `device_name: "$ $$ $1 $lower $Host ${} ${HOST US$"`,
			want: Config{DeviceName: "$ $$ $1 $lower $Host ${} ${HOST US$"}},
		{name: "password with dollars", connector: `password: "pa$$word$HOST$"`, want: Config{Password: "pa$$word$HOST$"}},
		{name: "password with braces", connector: `password: "a${_A1}b"`, want: Config{Password: "aoneb"}},
		{name: "password of a variable", connector: `password: "$_A1"`, want: Config{Password: "one"}},
		{name: "block", connector: "password: |-\n      two\n      lines", want: Config{Password: "two\nlines"}},
		{name: "passed over", connector: "nick: [1]\n    repo: {}\n    send_m_notice: $UNSET", database: "name: x\n    no-cache: true"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conf, err := load("connectors:\n  matrix:\n    "+test.connector+"\ndatabases:\n  matrix:\n    "+test.database+"\n", env...)
			require.NoError(t, err)
			require.Equal(t, test.want, withoutOrigin(conf))
		})
	}
}

func TestLoadConfigShapes(t *testing.T) {
	want := Config{Homeserver: "a", UserID: "b", DefaultRoom: "c"}
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
		"itself":     "connectors: {matrix: &m {<<: *m, homeserver: a, mxid: b}}\ndatabases: {matrix: {default_room: c}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			conf, err := load(text)
			require.NoError(t, err)
			require.Equal(t, want, withoutOrigin(conf))
		})
	}
	for name, text := range map[string]string{
		"databases only":  "databases:\n  matrix:\n",
		"connectors only": "connectors:\n  matrix: {}\ndatabases:\n",
	} {
		t.Run(name, func(t *testing.T) {
			conf, err := load(text)
			require.NoError(t, err)
			require.Equal(t, Config{}, withoutOrigin(conf))
		})
	}
}

func TestLoadConfigRefuses(t *testing.T) {
	connector := func(lines ...string) string {
		return "connectors:\n  matrix:\n    " + strings.Join(lines, "\n    ") + "\n"
	}
	database := func(lines ...string) string {
		return "databases:\n  matrix:\n    " + strings.Join(lines, "\n    ") + "\n"
	}
	const noSection = "bot.yaml: has no matrix section, neither under connectors nor under databases"
	const duration = `a time above zero, as in "45s" or a number of seconds`
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
			conf, err := load(test.text, "SECRET", "hunter2", "FALSE", "false")
			require.EqualError(t, err, "matrix: "+test.err)
			require.Equal(t, Config{}, conf)
			require.NotContains(t, err.Error(), "hunter")
		})
	}
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
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "s3cret pass$WORD"
		for _, quoted := range []string{secret, `"` + secret + `"`, "'" + secret + "'", "{" + secret + ": }", "*" + secret} {
			text := before + "connectors:\n  matrix:\n    password: " + quoted + "\n" + after
			conf, err := load(text, "HOST", "example.org", "B", "#b:example.org")
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
		_, _ = load(after)
	})
}
