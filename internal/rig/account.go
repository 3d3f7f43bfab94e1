package rig

import (
	"crypto/rand"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
)

// An Account is a user of a homeserver, with a plain client that is logged in as
// one of the user's devices.
type Account struct {
	*mautrix.Client
	Password string
}

// Login makes a new device for the account of a name, and the account if there is
// none.
func (s Server) Login(t testing.TB, name string) Account {
	t.Helper()
	const password = "a password"
	made, err := s.Register(t.Context(), name, password)
	require.NoError(t, err)
	client, err := mautrix.NewClient(s.URL(), id.UserID(made.UserID), made.AccessToken)
	require.NoError(t, err)
	client.Client.Transport = patient{http.DefaultTransport.(*http.Transport)}
	client.DeviceID = id.DeviceID(made.DeviceID)
	t.Cleanup(client.Client.CloseIdleConnections)
	return Account{client, password}
}

// NewAccount makes an account of a new name.
func (s Server) NewAccount(t testing.TB) Account {
	t.Helper()
	return s.Login(t, "u"+strings.ToLower(rand.Text()))
}

// Register makes an account of a new name on the shared homeserver.
func Register(t testing.TB) Account {
	t.Helper()
	return Shared(t).NewAccount(t)
}

// Config returns the settings of a bot with this account, and its device, in a room.
func (a Account) Config(room id.RoomID) matrix.Config {
	return matrix.Config{
		Homeserver:  a.HomeserverURL.String(),
		AccessToken: a.AccessToken,
		Rooms:       map[string]string{"main": room.String()},
		Timeout:     15 * time.Second,
	}
}
