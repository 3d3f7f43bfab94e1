package matrix

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-joe/matrix-memory/internal/settings"
)

const (
	minTimeout = time.Millisecond
	maxTimeout = time.Hour

	roomForms = "neither an alias, as in #ops:example.org, nor a room ID, as in !abc:example.org"
)

// validate returns one error that lists every fault of the Config. Neither
// homeserver nor credentials are required of a program that brings its own client.
func (c Config) validate(ownClient bool) error {
	c = c.withDefaults("")
	faults := settings.FaultsOf(c)
	if c.origin != nil {
		faults = c.origin.file.FaultsOf(c, c.origin.loaded)
	}
	c.check(faults, ownClient)
	return faults.Err()
}

// check adds what breaks a rule to faults. The Config has its defaults. None of
// the texts holds a secret.
func (c Config) check(faults *settings.Faults, ownClient bool) {
	c.checkHomeserver(faults, ownClient)
	c.checkCredentials(faults, ownClient)
	c.checkRooms(faults)
	c.checkLayout(faults)
	if c.ShouldEncrypt > Off {
		faults.Add("ShouldEncrypt", "is neither On nor Off")
	}
	if c.FollowUpgrades > Off {
		faults.Add("FollowUpgrades", "is neither On nor Off")
	}
	switch {
	case c.Timeout < 0:
		faults.Add("Timeout", "%v is negative", c.Timeout)
	case c.Timeout < minTimeout, c.Timeout > maxTimeout:
		faults.Add("Timeout", "%v is not between %v and %v", c.Timeout, minTimeout, maxTimeout)
	}
	if c.StoreKey != "" && c.StorePath == "" && c.Journal == "" {
		faults.Add("StoreKey", "needs a %s, the folder that it locks, or a %s, whose values it seals", faults.Name("StorePath"), faults.Name("Journal"))
	}
}

func (c Config) checkHomeserver(faults *settings.Faults, ownClient bool) {
	switch value := c.Homeserver; {
	case value == "" && ownClient:
	case value == "":
		faults.Add("Homeserver", "is missing: give the homeserver's base URL, or its name to look it up")
	case strings.Contains(value, "@"):
		// It may hold a password, so it is not shown.
		faults.Add("Homeserver", "holds a user name or password; it is only a base URL or a server name")
	case !settings.IsBaseURL(value) && !settings.IsServerName(value):
		faults.Add("Homeserver", "%q is neither a base URL, as in https://matrix.example.org, nor a server name, as in example.org", value)
	}
}

func (c Config) checkCredentials(faults *settings.Faults, ownClient bool) {
	if c.UserID != "" && !settings.IsUserID(c.UserID) {
		faults.Add("UserID", "%q is not a full user ID, as in @bot:example.org", c.UserID)
	}
	switch {
	case ownClient:
	case c.AccessToken != "":
		if settings.HasBlank(c.AccessToken) {
			faults.Add("AccessToken", "holds a blank, a line break or a control character")
		}
	case c.Password == "":
		faults.Add("Password", "is missing, and so is %s: the bot needs one of them to log in", faults.Name("AccessToken"))
	case c.UserID == "":
		faults.Add("UserID", "is missing: a login by password needs the full user ID, as in @bot:example.org")
	}
}

func (c Config) checkRooms(faults *settings.Faults) {
	for _, name := range slices.Sorted(maps.Keys(c.Rooms)) {
		if name == "" || settings.IsReference(name) {
			faults.AddMember("Rooms", name, "a name for a room is not empty and does not start with # or !, as aliases and room IDs do")
		}
		if room := c.Rooms[name]; !settings.IsRoom(room) {
			faults.AddMember("Rooms", name, "%q is %s", room, roomForms)
		}
	}
	_, named := c.Rooms[c.DefaultRoom]
	switch {
	case named, settings.IsRoom(c.DefaultRoom):
	case settings.IsReference(c.DefaultRoom):
		faults.Add("DefaultRoom", "%q is %s", c.DefaultRoom, roomForms)
	default:
		faults.Add("DefaultRoom", "%q is not a name in %s", c.DefaultRoom, faults.Name("Rooms"))
	}
}

func (c Config) checkLayout(faults *settings.Faults) {
	switch eventType := c.EventType; {
	case len(eventType) > settings.MaxIdentifier:
		faults.Add("EventType", "has %d bytes; an event type has at most %d", len(eventType), settings.MaxIdentifier)
	case !settings.IsText(eventType):
		faults.Add("EventType", "is not UTF-8 text without NUL")
	case strings.HasPrefix(eventType, "m."):
		faults.Add("EventType", "%q is one of Matrix's own: they start with m. and mean something to every client", eventType)
	}
	switch key := string(c.SingleStateKey); {
	case key == string(PerKey):
	case len(key) > settings.MaxIdentifier:
		faults.Add("SingleStateKey", "has %d bytes; a state key has at most %d", len(key), settings.MaxIdentifier)
	case !settings.IsText(key):
		faults.Add("SingleStateKey", "is not UTF-8 text without NUL")
	case strings.HasPrefix(key, "@"):
		faults.Add("SingleStateKey", "%q starts with @, which homeservers keep for user IDs", key)
	}
}
