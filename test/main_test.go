package test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// server is the homeserver that all tests share; each takes an account and rooms
// of its own.
var server *homeserver.Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "matrix-memory-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	server, err = homeserver.Start(context.Background(), homeserver.Options{Dir: dir, Progress: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, "The tests need a homeserver:", err)
		return 1
	}
	defer func() {
		if err := server.Stop(); err != nil { // it ended by itself, and its log says why
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	return m.Run()
}

// An account is a user of the server with a plain client of its own.
type account struct {
	homeserver.Account
	*mautrix.Client
}

// register makes a new account.
func register(t testing.TB) account {
	t.Helper()
	made, err := server.Register(t.Context(), "u"+strings.ToLower(rand.Text()), "a password")
	require.NoError(t, err)
	client, err := mautrix.NewClient(server.URL(), id.UserID(made.UserID), made.AccessToken)
	require.NoError(t, err)
	client.DeviceID = id.DeviceID(made.DeviceID)
	t.Cleanup(client.Client.CloseIdleConnections)
	return account{made, client}
}

// newRoom makes a room that belongs to the account, with others invited and joined.
func (a account) newRoom(t testing.TB, others ...account) id.RoomID {
	t.Helper()
	request := &mautrix.ReqCreateRoom{Preset: "private_chat"}
	for _, other := range others {
		request.Invite = append(request.Invite, other.UserID())
	}
	room, err := a.CreateRoom(t.Context(), request)
	require.NoError(t, err)
	for _, other := range others {
		_, err := other.JoinRoomByID(t.Context(), room.RoomID)
		require.NoError(t, err)
	}
	return room.RoomID
}

// UserID is both a field of the client and of the account.
func (a account) UserID() id.UserID { return a.Client.UserID }

// config returns the settings of a bot with this account in a room.
func (a account) config(room id.RoomID) matrix.Config {
	return matrix.Config{
		Homeserver:  server.URL(),
		AccessToken: a.Account.AccessToken,
		Rooms:       map[string]string{"main": room.String()},
		Timeout:     15 * time.Second,
	}
}

// open opens a memory and closes it when the test ends.
func open(t testing.TB, conf matrix.Config, opts ...matrix.Option) *matrix.Memory {
	t.Helper()
	memory := matrix.New(conf, append([]matrix.Option{matrix.WithLogger(quiet(t))}, opts...)...)
	require.NoError(t, memory.Open(t.Context()))
	t.Cleanup(func() { require.NoError(t, memory.Close()) })
	return memory
}

// quiet returns a logger that writes to the test's output.
func quiet(t testing.TB) logrus.FieldLogger {
	logger := logrus.New()
	logger.SetOutput(t.Output())
	return logger
}

// layouts are the three ways in which a room's memory can stand.
var layouts = map[string]matrix.StateKey{
	"single": matrix.OneStateKey,
	"custom": "my.key",
	"perkey": matrix.PerKey,
}

// memoryType is the type of the memory's state events.
var memoryType = event.Type{Type: "dev.opsdroid.database", Class: event.StateEventType}

// state returns the room's memory as it stands on the server: the content of the
// memory's state events by state key.
func (a account) state(t testing.TB, room id.RoomID) map[string]string {
	t.Helper()
	all, err := a.State(t.Context(), room)
	require.NoError(t, err)
	contents := make(map[string]string)
	for stateKey, evt := range all[memoryType] {
		contents[stateKey] = string(evt.Content.VeryRaw)
	}
	return contents
}

// eventually waits until a condition holds, at most ten seconds.
func eventually(t testing.TB, condition func() bool, message string, args ...any) {
	t.Helper()
	require.Eventually(t, condition, 10*time.Second, 10*time.Millisecond, append([]any{message}, args...)...)
}

// noLeaks fails the test if it leaves goroutines behind.
func noLeaks(t testing.TB) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}
