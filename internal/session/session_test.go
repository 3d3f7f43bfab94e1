package session_test

import (
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/internal/session"
)

func TestMain(m *testing.M) { os.Exit(rig.Run(m)) }

var eventually = rig.Eventually(15 * time.Second)

// A connection is a session of an account behind a proxy, and what it reports.
type connection struct {
	*session.Session
	Front *homeserver.Proxy

	mu      sync.Mutex // owns what follows
	anew    int
	updates []session.Update
}

// connect opens a session.
func connect(t *testing.T, account rig.Account) *connection {
	t.Helper()
	return connectBy(t, account, session.New(session.NewClient(), false))
}

func connectBy(t *testing.T, account rig.Account, s *session.Session) *connection {
	t.Helper()
	c := &connection{Session: s, Front: rig.Proxy(t)}
	require.NoError(t, s.Open(t.Context(), session.Options{
		Homeserver:  c.Front.URL(),
		AccessToken: account.AccessToken,
		Types:       []event.Type{rig.MemoryType, event.StatePowerLevels, event.StateEncryption, event.StateCreate},
		Recent:      rig.MemoryType,
		Timeout:     15 * time.Second,
		Log:         rig.Log(t),
		Update:      c.update,
		Anew:        c.begun,
	}))
	t.Cleanup(s.Close)
	return c
}

func (c *connection) update(u session.Update) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.updates = append(c.updates, u)
}

func (c *connection) begun() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.anew++
}

// Anew returns how often the session has said that its sync began anew.
func (c *connection) Anew() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.anew
}

// Brought returns the contents of the memory's events that sync has brought of a room.
func (c *connection) Brought(room id.RoomID) (contents []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.updates {
		if u.Room == room {
			contents = append(contents, texts(u.Timeline)...)
		}
	}
	return contents
}

// texts returns the contents of the memory's events among some.
func texts(events []*event.Event) (contents []string) {
	for _, evt := range events {
		if evt.Type.Type == rig.MemoryType.Type {
			contents = append(contents, string(evt.Content.VeryRaw))
		}
	}
	return contents
}

// InRoom matches the requests about rooms of one kind, as "context".
func inRoom(kind string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		_, rest, ok := strings.Cut(r.URL.EscapedPath(), "/rooms/")
		parts := strings.Split(rest, "/")
		return ok && len(parts) > 1 && parts[1] == kind
	}
}

// count returns how many requests of a kind the proxy has seen.
func (c *connection) count(match func(*http.Request) bool) int {
	return c.Front.Count(homeserver.Seen(match))
}
