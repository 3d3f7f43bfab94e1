package settings_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReadValues(t *testing.T) {
	env := []string{
		"HOST", "matrix.example.org", "_A1", "one", "lower", "small", "EMPTY", "", "NO", "no",
		"TIME", "30", "KEY", "my.key", "AGAIN", "$HOST", "LINES", "a\nhomeserver: evil",
	}
	for _, test := range []struct {
		name, connector, database string
		want                      bot
	}{
		{name: "nothing"},
		{name: "single_state_key true", database: "single_state_key: true", want: bot{SingleStateKey: one}},
		{name: "single_state_key false", database: "single_state_key: False", want: bot{SingleStateKey: each}},
		{name: "single_state_key of YAML 1.1", database: "single_state_key: OFF", want: bot{SingleStateKey: each}},
		{name: "single_state_key string", database: "single_state_key: my.key", want: bot{SingleStateKey: "my.key"}},
		{name: "single_state_key in quotes", database: `single_state_key: "true"`, want: bot{SingleStateKey: "true"}},
		{name: "single_state_key no in quotes", database: `single_state_key: 'no'`, want: bot{SingleStateKey: "no"}},
		{name: "single_state_key as tagged", database: `single_state_key: !!str true`, want: bot{SingleStateKey: "true"}},
		{name: "single_state_key empty, as opsdroid", database: `single_state_key: ""`, want: bot{SingleStateKey: each}},
		{name: "single_state_key of the environment", database: `single_state_key: $KEY`, want: bot{SingleStateKey: "my.key"}},
		{name: "should_encrypt on", database: "should_encrypt: On", want: bot{ShouldEncrypt: on}},
		{name: "should_encrypt off", database: "should_encrypt: false", want: bot{ShouldEncrypt: off}},
		{name: "should_encrypt of the environment", database: "should_encrypt: $NO", want: bot{ShouldEncrypt: off}},
		{name: "enable_encryption is not should_encrypt", connector: "enable_encryption: false", want: bot{ShouldEncrypt: on}},
		{name: "timeout duration", database: "timeout: 1m30s", want: bot{Timeout: 90 * time.Second}},
		{name: "timeout number", database: "timeout: 20", want: bot{Timeout: 20 * time.Second}},
		{name: "timeout fraction", database: "timeout: 0.5", want: bot{Timeout: time.Second / 2}},
		{name: "timeout of the environment", database: "timeout: $TIME", want: bot{Timeout: 30 * time.Second}},
		{name: "timeout beside the connector", connector: "timeout: 5s", want: bot{Timeout: 5 * time.Second}},
		{name: "the same in both", connector: "timeout: 5s", database: "timeout: 5", want: bot{Timeout: 5 * time.Second}},
		{name: "rooms", connector: `rooms: {a: "#a:b", b: {alias: "!b"}, 7: "#7:b"}`,
			want: bot{Rooms: map[string]string{"a": "#a:b", "b": "!b", "7": "#7:b"}}},
		{name: "merged rooms", connector: `rooms: {<<: {a: "#a:b", b: "#b:b"}, b: "#own:b"}`,
			want: bot{Rooms: map[string]string{"a": "#a:b", "b": "#own:b"}}},
		{name: "variable", connector: "homeserver: $HOST", want: bot{Homeserver: "matrix.example.org"}},
		{name: "variable in braces", connector: "homeserver: ${HOST}", want: bot{Homeserver: "matrix.example.org"}},
		{name: "variable within", connector: `homeserver: "https://$HOST:8448"`, want: bot{Homeserver: "https://matrix.example.org:8448"}},
		{name: "variables", connector: `device_name: $_A1-${_A1}x${lower}`, want: bot{DeviceName: "one-onexsmall"}},
		{name: "variable in a room", connector: `rooms: {a: "#a:$HOST", b: {alias: "#b:$HOST"}}`,
			want: bot{Rooms: map[string]string{"a": "#a:matrix.example.org", "b": "#b:matrix.example.org"}}},
		{name: "opsdroid's tag", connector: `homeserver: !envvar $HOST`, want: bot{Homeserver: "matrix.example.org"}},
		{name: "empty variable", connector: "homeserver: $EMPTY"},
		{name: "not looked through again", connector: "homeserver: $AGAIN", want: bot{Homeserver: "$HOST"}},
		{name: "not read as YAML", connector: "password: $LINES", want: bot{Password: "a\nhomeserver: evil"}},
		{name: "no variable in single quotes", connector: "homeserver: '${HOST}$HOST'", want: bot{Homeserver: "${HOST}$HOST"}},
		{name: "no name after the dollar", connector: `device_name: "$ $$ $1 $lower $Host ${} ${HOST US$"`,
			want: bot{DeviceName: "$ $$ $1 $lower $Host ${} ${HOST US$"}},
		{name: "password with dollars", connector: `password: "pa$$word$HOST$"`, want: bot{Password: "pa$$word$HOST$"}},
		{name: "password with braces", connector: `password: "a${_A1}b"`, want: bot{Password: "aoneb"}},
		{name: "password of a variable", connector: `password: "$_A1"`, want: bot{Password: "one"}},
		{name: "strings to opsdroid", connector: "password: 1e5\n    device_name: 0o17\n    device_id: 1.5e3\n    enabled: true", want: bot{Password: "1e5", DeviceName: "0o17", DeviceID: "1.5e3"}},
		{name: "block", connector: "password: |-\n      two\n      lines", want: bot{Password: "two\nlines"}},
		{name: "passed over", connector: "nick: [1]\n    repo: {}\n    send_m_notice: $UNSET", database: "name: x\n    no-cache: true"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conf, _, faults := read("connectors:\n  matrix:\n    "+test.connector+"\ndatabases:\n  matrix:\n    "+test.database+"\n", env...)
			require.NoError(t, faults.Err())
			require.Equal(t, test.want, conf)
		})
	}
}
