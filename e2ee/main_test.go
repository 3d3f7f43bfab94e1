//go:build goolm

package e2ee_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Run(m)) }

// bound is how long a test waits for something.
const bound = 20 * time.Second

// eventually waits until a condition holds.
var eventually = rig.Eventually(bound)

// valueType is the type of the encrypted events that hold the memory's values.
var valueType = event.Type{Type: rig.MemoryType.Type, Class: event.MessageEventType}

// An account is one with encrypted rooms and values.
type account struct{ rig.Account }

// register makes a new account.
func register(t testing.TB) account { return account{rig.Register(t)} }

// anotherDevice makes a new device for the account.
func (a account) anotherDevice(t testing.TB) account {
	t.Helper()
	return account{rig.Shared(t).Login(t, a.UserID.Localpart())}
}

// newRoom makes an encrypted room that belongs to the account.
func (a account) newRoom(t testing.TB, options ...rig.RoomOption) id.RoomID {
	t.Helper()
	return a.NewRoom(t, append(options, rig.Encrypted)...)
}

// config returns the settings of a bot with this account in a room, with a new
// key store. It logs in by password, so that each store makes a device.
func (a account) config(t testing.TB, room id.RoomID) matrix.Config {
	conf := a.Config(room)
	conf.AccessToken, conf.UserID, conf.Password = "", a.UserID.String(), a.Password
	conf.StorePath, conf.StoreKey = filepath.Join(t.TempDir(), "keys"), "a passphrase"
	conf.Timeout = time.Minute
	return conf
}

// open opens a memory with encryption.
func open(t testing.TB, conf matrix.Config) *matrix.Memory {
	t.Helper()
	return rig.Open(t, conf, e2ee.Enable())
}

// pointers returns the events that the state refers to, by key, and fails if a
// value stands in the clear.
func (a account) pointers(t testing.TB, room id.RoomID) map[string]id.EventID {
	t.Helper()
	pointers := make(map[string]id.EventID)
	for _, standing := range a.Standing(t, room) {
		var content map[string]struct {
			Pointer id.EventID `json:"encrypted_val"`
		}
		require.NoError(t, json.Unmarshal([]byte(standing), &content))
		for key, value := range content {
			require.NotEmpty(t, value.Pointer, "the value of %q stands in the clear: %s", key, standing)
			pointers[key] = value.Pointer
		}
	}
	return pointers
}

// put stores a state event of the memory as somebody with a plain client does.
func (a account) put(t testing.TB, room id.RoomID, content string) {
	t.Helper()
	a.Put(t, room, "", json.RawMessage(content))
}

// proxied returns settings that go through a proxy.
func proxied(t testing.TB, conf matrix.Config) (matrix.Config, *homeserver.Proxy) {
	t.Helper()
	proxy := rig.Proxy(t)
	conf.Homeserver = proxy.URL()
	return conf, proxy
}
