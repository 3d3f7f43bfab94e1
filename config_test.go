package matrix

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

func goodConfig() Config {
	return Config{
		Homeserver: "https://matrix.example.org",
		UserID:     "@bot:example.org",
		Password:   "hunter2-password",
		Rooms:      map[string]string{"main": "#main:example.org"},
	}
}

func TestConfigDefaults(t *testing.T) {
	conf := Config{}.withDefaults("bender")
	require.Equal(t, Config{
		DeviceName:     "bender",
		DefaultRoom:    "main",
		SingleStateKey: OneStateKey,
		ShouldEncrypt:  On,
		EventType:      "dev.opsdroid.database",
		Timeout:        45 * time.Second,
	}, conf)
	require.Equal(t, conf, conf.withDefaults("bender"))

	set := Config{DeviceName: "a", DefaultRoom: "b", SingleStateKey: PerKey, ShouldEncrypt: Off, EventType: "c", Timeout: time.Second}
	require.Equal(t, set, set.withDefaults("bender"), "what is set stays")
}

func TestConfigDefaultsHaveRoomsOfTheirOwn(t *testing.T) {
	conf := goodConfig()
	own := conf.withDefaults("bender")
	conf.Rooms["main"] = "#other:example.org"
	require.Equal(t, "#main:example.org", own.Rooms["main"])
}

func TestValidateAccepts(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"password":              func(c *Config) {},
		"token":                 func(c *Config) { c.Password, c.UserID, c.AccessToken = "", "", "syt_abc" },
		"both, as in opsdroid":  func(c *Config) { c.AccessToken = "syt_abc" },
		"server name":           func(c *Config) { c.Homeserver = "example.org" },
		"server name with port": func(c *Config) { c.Homeserver = "example.org:8448" },
		"IPv6 server name":      func(c *Config) { c.Homeserver = "[::1]:8448" },
		"URL with port":         func(c *Config) { c.Homeserver = "http://127.0.0.1:8008" },
		"URL with path":         func(c *Config) { c.Homeserver = "https://example.org/matrix/" },
		"URL of a container":    func(c *Config) { c.Homeserver = "http://home_server:8008" },
		"historical user ID":    func(c *Config) { c.UserID = "@Bot!:example.org:8448" },
		"room ID":               func(c *Config) { c.Rooms["main"] = "!abc:example.org" },
		"room ID of version 12": func(c *Config) { c.Rooms["main"] = "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM" },
		"alias on a port":       func(c *Config) { c.Rooms["main"] = "#über uns:localhost:8448" },
		"default by name":       func(c *Config) { c.DefaultRoom = "ops"; c.Rooms["ops"] = "#ops:example.org" },
		"default by alias":      func(c *Config) { c.DefaultRoom = "#ops:example.org"; c.Rooms = nil },
		"default by room ID":    func(c *Config) { c.DefaultRoom = "!ops"; c.Rooms = nil },
		"a key an event":        func(c *Config) { c.SingleStateKey = PerKey },
		"custom state key":      func(c *Config) { c.SingleStateKey = StateKey(strings.Repeat("k", 255)) },
		"event type":            func(c *Config) { c.EventType = strings.Repeat("t", 255) },
		"shortest timeout":      func(c *Config) { c.Timeout = time.Millisecond },
		"longest timeout":       func(c *Config) { c.Timeout = time.Hour },
		"journal":               func(c *Config) { c.Journal, c.StoreKey = "memory.db", "phrase" },
		"key store":             func(c *Config) { c.StorePath, c.StoreKey = "keys", "phrase" },
		"no encryption":         func(c *Config) { c.ShouldEncrypt = Off },
	} {
		t.Run(name, func(t *testing.T) {
			conf := goodConfig()
			change(&conf)
			require.NoError(t, conf.validate(false))
		})
	}
}

func TestValidateRefuses(t *testing.T) {
	const rooms = "neither an alias, as in #ops:example.org, nor a room ID, as in !abc:example.org"
	long := strings.Repeat("x", 256)
	for _, test := range []struct {
		name   string
		change func(*Config)
		err    string
	}{
		{"no homeserver", func(c *Config) { c.Homeserver = "" },
			"Config.Homeserver: is missing: give the homeserver's base URL, or its name to look it up"},
		{"other scheme", func(c *Config) { c.Homeserver = "ftp://example.org" },
			`Config.Homeserver: "ftp://example.org" is neither a base URL, as in https://matrix.example.org, nor a server name, as in example.org`},
		{"URL without host", func(c *Config) { c.Homeserver = "https:///matrix" },
			`Config.Homeserver: "https:///matrix" is neither a base URL, as in https://matrix.example.org, nor a server name, as in example.org`},
		{"URL with query", func(c *Config) { c.Homeserver = "https://example.org?a" },
			`Config.Homeserver: "https://example.org?a" is neither a base URL, as in https://matrix.example.org, nor a server name, as in example.org`},
		{"port too high", func(c *Config) { c.Homeserver = "example.org:65536" },
			`Config.Homeserver: "example.org:65536" is neither a base URL, as in https://matrix.example.org, nor a server name, as in example.org`},
		{"URL with password", func(c *Config) { c.Homeserver = "https://me:hunter2@example.org" },
			"Config.Homeserver: holds a user name or password; it is only a base URL or a server name"},
		{"no credentials", func(c *Config) { c.Password = "" },
			"Config.Password: is missing, and so is AccessToken: the bot needs one of them to log in"},
		{"password without user", func(c *Config) { c.UserID = "" },
			"Config.UserID: is missing: a login by password needs the full user ID, as in @bot:example.org"},
		{"token with line break", func(c *Config) { c.AccessToken = "hunter2\n" },
			"Config.AccessToken: holds a blank, a line break or a control character"},
		{"user ID without server", func(c *Config) { c.UserID = "@bot" },
			`Config.UserID: "@bot" is not a full user ID, as in @bot:example.org`},
		{"user name", func(c *Config) { c.UserID = "bot:example.org" },
			`Config.UserID: "bot:example.org" is not a full user ID, as in @bot:example.org`},
		{"nobody", func(c *Config) { c.UserID = "@:example.org" },
			`Config.UserID: "@:example.org" is not a full user ID, as in @bot:example.org`},
		{"user ID with blank", func(c *Config) { c.UserID = "@my bot:example.org" },
			`Config.UserID: "@my bot:example.org" is not a full user ID, as in @bot:example.org`},
		{"alias without server", func(c *Config) { c.Rooms["main"] = "#main" },
			`Config.Rooms["main"]: "#main" is ` + rooms},
		{"room by name only", func(c *Config) { c.Rooms["main"] = "main" },
			`Config.Rooms["main"]: "main" is ` + rooms},
		{"empty room", func(c *Config) { c.Rooms["main"] = "" },
			`Config.Rooms["main"]: "" is ` + rooms},
		{"room ID without ID", func(c *Config) { c.Rooms["main"] = "!:example.org" },
			`Config.Rooms["main"]: "!:example.org" is ` + rooms},
		{"room ID with bad server", func(c *Config) { c.Rooms["main"] = "!abc:" },
			`Config.Rooms["main"]: "!abc:" is ` + rooms},
		{"room with NUL", func(c *Config) { c.Rooms["main"] = "!a\x00" },
			`Config.Rooms["main"]: "!a\x00" is ` + rooms},
		{"name like an alias", func(c *Config) { c.Rooms["#ops"] = "#ops:example.org" },
			`Config.Rooms["#ops"]: a name for a room is not empty and does not start with # or !, as aliases and room IDs do`},
		{"empty name", func(c *Config) { c.Rooms[""] = "#ops:example.org" },
			`Config.Rooms[""]: a name for a room is not empty and does not start with # or !, as aliases and room IDs do`},
		{"no main room", func(c *Config) { c.Rooms = nil },
			`Config.DefaultRoom: "main" is not a name in Rooms`},
		{"unknown default room", func(c *Config) { c.DefaultRoom = "ops" },
			`Config.DefaultRoom: "ops" is not a name in Rooms`},
		{"malformed default room", func(c *Config) { c.DefaultRoom = "#ops" },
			`Config.DefaultRoom: "#ops" is ` + rooms},
		{"negative timeout", func(c *Config) { c.Timeout = -time.Second },
			"Config.Timeout: -1s is negative"},
		{"timeout without unit", func(c *Config) { c.Timeout = 45 },
			"Config.Timeout: 45ns is not between 1ms and 1h0m0s"},
		{"timeout of hours", func(c *Config) { c.Timeout = 2 * time.Hour },
			"Config.Timeout: 2h0m0s is not between 1ms and 1h0m0s"},
		{"long event type", func(c *Config) { c.EventType = long },
			"Config.EventType: has 256 bytes; an event type has at most 255"},
		{"broken event type", func(c *Config) { c.EventType = "a\xff" },
			"Config.EventType: is not UTF-8 text without NUL"},
		{"Matrix's event type", func(c *Config) { c.EventType = "m.room.power_levels" },
			`Config.EventType: "m.room.power_levels" is one of Matrix's own: they start with m. and mean something to every client`},
		{"long state key", func(c *Config) { c.SingleStateKey = StateKey(long) },
			"Config.SingleStateKey: has 256 bytes; a state key has at most 255"},
		{"broken state key", func(c *Config) { c.SingleStateKey = "a\xff" },
			"Config.SingleStateKey: is not UTF-8 text without NUL"},
		{"state key with NUL", func(c *Config) { c.SingleStateKey = "a\x00" },
			"Config.SingleStateKey: is not UTF-8 text without NUL"},
		{"state key of a user", func(c *Config) { c.SingleStateKey = "@bot:example.org" },
			`Config.SingleStateKey: "@bot:example.org" starts with @, which homeservers keep for user IDs`},
		{"no switch", func(c *Config) { c.ShouldEncrypt = 7 },
			"Config.ShouldEncrypt: is neither On nor Off"},
		{"store key without store", func(c *Config) { c.StoreKey = "hunter2" },
			"Config.StoreKey: needs a StorePath, the folder that it locks, or a Journal, whose values it seals"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conf := goodConfig()
			test.change(&conf)
			require.EqualError(t, conf.validate(false), "matrix: "+test.err)
		})
	}
}

func TestValidateListsEveryFault(t *testing.T) {
	conf := Config{
		Homeserver: "nowhere/",
		Password:   "hunter2",
		Rooms:      map[string]string{"b": "b", "a": "a"},
		Timeout:    -1,
		StoreKey:   "hunter2",
	}
	require.EqualError(t, conf.validate(false), `matrix: the configuration has 7 faults:
	Config.Homeserver: "nowhere/" is neither a base URL, as in https://matrix.example.org, nor a server name, as in example.org
	Config.UserID: is missing: a login by password needs the full user ID, as in @bot:example.org
	Config.Rooms["a"]: "a" is neither an alias, as in #ops:example.org, nor a room ID, as in !abc:example.org
	Config.Rooms["b"]: "b" is neither an alias, as in #ops:example.org, nor a room ID, as in !abc:example.org
	Config.DefaultRoom: "main" is not a name in Rooms
	Config.Timeout: -1ns is negative
	Config.StoreKey: needs a StorePath, the folder that it locks, or a Journal, whose values it seals`)
}

func TestValidateWithOwnClient(t *testing.T) {
	conf := Config{DefaultRoom: "#ops:example.org"}
	require.NoError(t, conf.validate(true))
	require.Error(t, conf.validate(false))

	conf = Config{Homeserver: "nowhere/", UserID: "bot"}
	require.EqualError(t, conf.validate(true), `matrix: the configuration has 3 faults:
	Config.Homeserver: "nowhere/" is neither a base URL, as in https://matrix.example.org, nor a server name, as in example.org
	Config.UserID: "bot" is not a full user ID, as in @bot:example.org
	Config.DefaultRoom: "main" is not a name in Rooms`)
}

func TestPrintingHidesSecrets(t *testing.T) {
	conf := goodConfig()
	conf.Homeserver = "https://me:hunter2-url@example.org"
	conf.AccessToken = "hunter2-token"
	conf.StoreKey = "hunter2-store"
	conf.RecoveryKey = "hunter2-recovery"
	conf.origin = &origin{loaded: conf}

	var printed []string
	holder := struct{ Conf *Config }{&conf}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10v"} {
		printed = append(printed,
			fmt.Sprintf(verb, conf), fmt.Sprintf(verb, &conf), fmt.Sprintf(verb, []Config{conf}), fmt.Sprintf(verb, holder))
	}
	marshalled, err := json.Marshal(holder)
	require.NoError(t, err)
	printed = append(printed, string(marshalled))
	inYAML, err := yaml.Marshal(holder)
	require.NoError(t, err)
	printed = append(printed, string(inYAML))

	var log bytes.Buffer
	for _, formatter := range []logrus.Formatter{&logrus.TextFormatter{}, &logrus.JSONFormatter{}} {
		logger := logrus.New()
		logger.SetOutput(&log)
		logger.SetFormatter(formatter)
		logger.WithField("conf", conf).Info(conf)
	}
	slog.New(slog.NewTextHandler(&log, nil)).Info("conf", "conf", conf)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("conf", "conf", conf)
	printed = append(printed, log.String())

	for _, text := range printed {
		require.NotContains(t, text, "hunter2")
		require.NotContains(t, text, fmt.Sprintf("%x", "hunter2"))
		require.NotContains(t, text, fmt.Sprintf("%X", "hunter2"))
	}
	require.Contains(t, printed[0], "@bot:example.org", "the rest is there")
	require.Contains(t, printed[0], "(secret)")
	require.Contains(t, string(marshalled), "#main:example.org")
	require.Contains(t, string(inYAML), "#main:example.org")
	require.Equal(t, "hunter2-password", conf.Password, "the Config itself is as it was")
}
