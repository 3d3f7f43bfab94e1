package matrix

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/go-joe/matrix-memory/internal/settings"
)

// A Config says where a bot's memory stands and how to reach it. The zero value
// of a field means its default. Write it in Go, or read it from a file with
// [LoadConfig]; what is wrong with it is said by [Memory.Open], in one error that
// lists every fault.
//
// Its secrets (Password, AccessToken, StoreKey and RecoveryKey) are left out
// wherever a Config is printed with package fmt or turned into JSON or YAML.
type Config struct {
	// Homeserver is the base URL of the bot's homeserver, as in
	// "https://matrix.example.org", or a server name, as in "example.org", to look
	// up by .well-known (Matrix spec, client-server API, "Server discovery").
	// Required, except with WithClient.
	Homeserver string

	// UserID is the bot's full Matrix user ID, as in "@bot:example.org".
	// Required with a password.
	UserID string

	// Password logs the bot in.
	Password string

	// AccessToken is used in place of a login. Where a password is set too, the
	// token is the one used, as in opsdroid.
	AccessToken string

	// DeviceID is the device to log in as. With a token the server knows it.
	DeviceID string

	// DeviceName is shown in the user's list of devices. Default: the bot's name.
	DeviceName string

	// Rooms names rooms. Each value is an alias ("#ops:example.org") or a room ID
	// ("!abc:example.org", or without a server name as of room version 12). A name
	// does not start with "#" or "!".
	Rooms map[string]string

	// DefaultRoom is where the bot's Store lives: a name in Rooms, an alias or a
	// room ID. Default: the name "main".
	DefaultRoom string

	// SingleStateKey says in which state events a room's memory stands.
	// Default: OneStateKey.
	SingleStateKey StateKey

	// ShouldEncrypt says whether values go out encrypted in an encrypted room.
	// It has no effect in other rooms. Default: On.
	ShouldEncrypt Switch

	// EventType is the type of the state events, at most 255 bytes, and not one of
	// Matrix's own, which start with "m.". Default: "dev.opsdroid.database".
	EventType string

	// Timeout bounds one operation on the memory, retries included: a millisecond
	// to an hour. Default: 45 seconds, as joe gives a handler 60.
	Timeout time.Duration

	// Journal is the file in which changes stand until they are delivered: with it, Set
	// and Delete return once the change is on disk, and the memory delivers it at the
	// homeserver's pace; a bot whose homeserver is down starts and remembers all the same. It
	// belongs to one bot, is made with permissions 0600 in a folder that is there, and
	// outlives the process. A relative name is one in the working directory. Without it, a
	// change is acknowledged once the homeserver has it.
	Journal string

	// FollowUpgrades says whether the memory goes along when a room is upgraded, which means
	// that another room takes its place (Matrix spec, client-server API, "Room upgrades"), and
	// takes what it holds along. If not, it stays, and what is set there is an [ErrUpgraded].
	// Default: On.
	FollowUpgrades Switch

	// StorePath is the folder in which package e2ee keeps its keys.
	StorePath string

	// StoreKey is the passphrase that locks the files in StorePath and seals the values
	// in Journal. It needs one of them.
	StoreKey string

	// RecoveryKey is the key of the account's secret storage, by which package
	// e2ee signs the bot's device and opens the key backup. The passphrase that the
	// storage was made with, if it was, can stand in its place.
	RecoveryKey string

	// origin is set where the Config was read from a file.
	origin *origin
}

// A StateKey says in which state events a room's memory stands. One that is
// neither OneStateKey nor PerKey is a custom state key: the memory is one
// dictionary under that state key, a name space of its own. It has at most 255
// bytes of UTF-8 without NUL, and does not start with "@" (homeservers refuse a
// state key that is another user's ID; Matrix spec, "Authorization rules").
type StateKey string

const (
	// OneStateKey keeps the memory as one dictionary under the empty state key.
	// It is the default, and `single_state_key: true` in a file.
	OneStateKey StateKey = ""

	// PerKey keeps each key in a state event of its own. It is
	// `single_state_key: false` in a file. It holds a NUL, which no state key can.
	PerKey StateKey = "\x00per-key"
)

// A Switch is a setting that is on unless it is switched off.
type Switch uint8

// The positions of a Switch.
const (
	On Switch = iota
	Off
)

// The defaults of Config's fields.
const (
	defaultRoom      = "main"
	defaultEventType = "dev.opsdroid.database"
	defaultTimeout   = 45 * time.Second
)

// withDefaults returns the Config with every default filled in, and a Rooms of
// its own.
func (c Config) withDefaults(botName string) Config {
	if c.DeviceName == "" {
		c.DeviceName = botName
	}
	if c.DefaultRoom == "" {
		c.DefaultRoom = defaultRoom
	}
	if c.EventType == "" {
		c.EventType = defaultEventType
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	c.Rooms = maps.Clone(c.Rooms)
	return c
}

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
//	journal           databases  string
//	follow_upgrades   databases  true or false
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
	var conf Config
	file, faults := table.Read(path, data, os.LookupEnv, &conf)
	if faults.Err() == nil {
		conf.origin = &origin{file, conf.withDefaults("")}
		return conf, nil
	}
	conf.withStandIns(file).check(faults, false)
	return Config{}, faults.Err()
}

// table says which keys of a file set which fields.
var table = settings.Table{
	Settings: []settings.Setting{
		{Key: "homeserver", Field: "Homeserver", In: settings.Connectors, As: settings.String},
		{Key: "mxid", Field: "UserID", In: settings.Connectors, As: settings.String},
		{Key: "password", Field: "Password", In: settings.Connectors, As: settings.Secret},
		{Key: "access_token", Field: "AccessToken", In: settings.Connectors, As: settings.Secret},
		{Key: "device_id", Field: "DeviceID", In: settings.Connectors, As: settings.String},
		{Key: "device_name", Field: "DeviceName", In: settings.Connectors, As: settings.String},
		{Key: "rooms", Field: "Rooms", In: settings.Connectors, As: settings.Rooms(someRoom)},
		{Key: "store_path", Field: "StorePath", In: settings.Connectors, As: settings.String},
		{Key: "default_room", Field: "DefaultRoom", In: settings.Databases, As: settings.String},
		{Key: "single_state_key", Field: "SingleStateKey", In: settings.Databases, As: settings.BoolOrString(OneStateKey, PerKey, "state key")},
		{Key: "should_encrypt", Field: "ShouldEncrypt", In: settings.Databases, As: settings.Bool(On, Off)},
		{Key: "event_type", Field: "EventType", In: settings.Either, As: settings.String},
		{Key: "journal", Field: "Journal", In: settings.Databases, As: settings.String},
		{Key: "follow_upgrades", Field: "FollowUpgrades", In: settings.Databases, As: settings.Bool(On, Off)},
		{Key: "timeout", Field: "Timeout", In: settings.Either, As: settings.Duration},
		{Key: "store_key", Field: "StoreKey", In: settings.Either, As: settings.Secret},
		{Key: "recovery_key", Field: "RecoveryKey", In: settings.Either, As: settings.Secret},
	},

	// These are the keys of opsdroid's Matrix modules, and of its modules in
	// general, that mean nothing here. enable_encryption is among them: it says
	// whether opsdroid loads its crypto library, and read as should_encrypt it would
	// have values go out in the clear that e2ee.Enable is meant to protect.
	PassedOver: []string{
		"nick", "room_specific_nicks", "send_m_notice", "enable_encryption",
		"name", "type", "enabled", "default", "module", "repo", "path", "gist", "branch", "key_path",
		"no-cache", "no-dep", "bot-name", "thinking-delay", "typing-delay",
	},
}

// An origin says what a Config was read from.
type origin struct {
	file   *settings.File
	loaded Config // as it was read, with its defaults: a field that differs was set in Go
}

// someRoom stands in for a room that could not be read.
const someRoom = "!room:example.org"

// withStandIns returns the Config with something right in place of each setting
// that could not be read, and every default, so that the others can be judged.
func (c Config) withStandIns(file *settings.File) Config {
	file.Complete(&c, Config{Homeserver: "example.org", UserID: "@bot:example.org", AccessToken: "token", StorePath: "keys", DefaultRoom: someRoom})
	c = c.withDefaults("")
	if c.Rooms == nil && !settings.IsReference(c.DefaultRoom) {
		c.Rooms = map[string]string{c.DefaultRoom: someRoom}
	}
	return c
}

// printable is a Config as it may be shown: it has no secrets, and none of
// Config's methods.
type printable Config

func (c Config) printable() printable {
	for _, secret := range []*string{&c.Password, &c.AccessToken, &c.StoreKey, &c.RecoveryKey} {
		if *secret != "" {
			*secret = "(secret)"
		}
	}
	if strings.Contains(c.Homeserver, "@") { // a URL that holds a password
		c.Homeserver = "(secret)"
	}
	c.origin = nil
	return printable(c)
}

// Format prints the Config without its secrets, whatever the verb.
func (c Config) Format(s fmt.State, verb rune) {
	fmt.Fprintf(s, fmt.FormatString(s, verb), c.printable())
}

// MarshalJSON gives the Config as JSON without its secrets, as loggers do.
func (c Config) MarshalJSON() ([]byte, error) {
	return json.Marshal(c.printable())
}

// MarshalYAML gives the Config as YAML without its secrets. It is not in the form
// that LoadConfig reads.
func (c Config) MarshalYAML() (interface{}, error) { return c.printable(), nil }
