//go:build goolm

package e2ee_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// server is the homeserver that all tests share; each takes accounts and rooms of
// its own.
var server *homeserver.Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	if os.Getenv(victimServer) != "" {
		return victim()
	}
	dir, err := os.MkdirTemp("", "matrix-memory-e2ee-test-")
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
	return login(t, "u"+strings.ToLower(rand.Text()))
}

// login makes a new device for an account, and the account if there is none.
func login(t testing.TB, name string) account {
	t.Helper()
	made, err := server.Register(t.Context(), name, "a password")
	require.NoError(t, err)
	client, err := mautrix.NewClient(server.URL(), id.UserID(made.UserID), made.AccessToken)
	require.NoError(t, err)
	client.DeviceID = id.DeviceID(made.DeviceID)
	t.Cleanup(client.Client.CloseIdleConnections)
	return account{made, client}
}

// UserID and DeviceID are both fields of the client and of the account.
func (a account) UserID() id.UserID     { return a.Client.UserID }
func (a account) DeviceID() id.DeviceID { return a.Client.DeviceID }

// newRoom makes an encrypted room that belongs to the account, with others in it.
func (a account) newRoom(t testing.TB, others ...account) id.RoomID {
	t.Helper()
	stateKey := ""
	request := &mautrix.ReqCreateRoom{
		Preset: "private_chat",
		InitialState: []*event.Event{{
			Type:     event.StateEncryption,
			StateKey: &stateKey,
			Content:  event.Content{Parsed: &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}},
		}},
	}
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

// config returns the settings of a bot with this account in a room, with a new
// key store. It logs in by password, so that each store makes a device.
func (a account) config(t testing.TB, room id.RoomID) matrix.Config {
	return matrix.Config{
		Homeserver: server.URL(),
		UserID:     a.UserID().String(),
		Password:   a.Password,
		Rooms:      map[string]string{"main": room.String()},
		Timeout:    time.Minute,
		StorePath:  filepath.Join(t.TempDir(), "keys"),
		StoreKey:   "a passphrase",
	}
}

// open opens a memory with encryption. It is closed when the test ends, if it is
// not closed before.
func open(t testing.TB, conf matrix.Config) *matrix.Memory {
	t.Helper()
	memory := matrix.New(conf, matrix.WithLogger(quiet(t)), e2ee.Enable())
	require.NoError(t, memory.Open(t.Context()))
	t.Cleanup(func() { require.NoError(t, memory.Close()) })
	return memory
}

// quiet returns a logger that writes to the test's output.
func quiet(t testing.TB) logrus.FieldLogger {
	logger := logrus.New()
	logger.SetOutput(t.Output())
	logger.SetLevel(logrus.DebugLevel)
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

// pointers returns the events that the state refers to, by key, and fails if a
// value stands in the clear.
func (a account) pointers(t testing.TB, room id.RoomID) map[string]id.EventID {
	t.Helper()
	all, err := a.State(t.Context(), room)
	require.NoError(t, err)
	pointers := make(map[string]id.EventID)
	for _, evt := range all[memoryType] {
		var content map[string]struct {
			Pointer id.EventID `json:"encrypted_val"`
		}
		require.NoError(t, json.Unmarshal(evt.Content.VeryRaw, &content))
		for key, value := range content {
			require.NotEmpty(t, value.Pointer, "the value of %q stands in the clear: %s", key, evt.Content.VeryRaw)
			pointers[key] = value.Pointer
		}
	}
	return pointers
}

// put stores a state event of the memory as somebody with a plain client does.
func (a account) put(t testing.TB, room id.RoomID, content string) {
	t.Helper()
	_, err := a.SendStateEvent(t.Context(), room, memoryType, "", json.RawMessage(content))
	require.NoError(t, err)
}

// requireValue fails unless the memory has a value.
func requireValue(t testing.TB, memory *matrix.Memory, key, want string) {
	t.Helper()
	value, ok, err := memory.Get(key)
	require.NoError(t, err)
	require.True(t, ok, "%q is not there", key)
	require.Equal(t, want, string(value))
}

// eventuallyFor is how long a test waits for something.
const eventuallyFor = 20 * time.Second

// eventually waits until a condition holds, at most twenty seconds.
func eventually(t testing.TB, condition func() bool, message string, args ...any) {
	t.Helper()
	require.Eventually(t, condition, eventuallyFor, 20*time.Millisecond, append([]any{message}, args...)...)
}

// A peer is a member of a room with a client of its own, which is plain mautrix.
type peer struct {
	account
	machine *crypto.OlmMachine
	since   string
}

// newPeer gives an account's device keys of its own.
func newPeer(t testing.TB, a account) *peer {
	t.Helper()
	states := mautrix.NewMemoryStateStore()
	a.Client.StateStore = states
	machine := crypto.NewOlmMachine(a.Client, nil, crypto.NewMemoryStore(nil), states.(crypto.StateStore))
	machine.AllowKeyShare = func(context.Context, *id.Device, event.RequestedKeyInfo) *crypto.KeyShareRejection { return nil }
	require.NoError(t, machine.Load(t.Context()))
	require.NoError(t, machine.ShareKeys(t.Context(), -1))
	return &peer{account: a, machine: machine}
}

// sync takes over what is new.
func (p *peer) sync(t testing.TB) {
	t.Helper()
	response, err := p.FullSyncRequest(t.Context(), mautrix.ReqSync{Since: p.since})
	require.NoError(t, err)
	p.machine.ProcessSyncResponse(t.Context(), response, p.since)
	for room, news := range response.Rooms.Join {
		for _, evt := range append(news.State.Events, news.Timeline.Events...) {
			evt.RoomID = room
			if evt.StateKey != nil {
				evt.Type.Class = event.StateEventType
				_ = evt.Content.ParseRaw(evt.Type)
				mautrix.UpdateStateStore(t.Context(), p.StateStore, evt)
			}
		}
	}
	p.since = response.NextBatch
}

// decrypt returns what an event holds. Its key may be on its way still.
func (p *peer) decrypt(t testing.TB, room id.RoomID, eventID id.EventID) (evt *event.Event) {
	t.Helper()
	var err error
	eventually(t, func() bool {
		evt, err = p.tryDecrypt(t, room, eventID)
		return err == nil || !errors.Is(err, crypto.ErrNoSessionFound)
	}, "the key of event %s does not come", eventID)
	require.NoError(t, err)
	return evt
}

// tryDecrypt returns what an event holds, if its key has come.
func (p *peer) tryDecrypt(t testing.TB, room id.RoomID, eventID id.EventID) (*event.Event, error) {
	t.Helper()
	p.sync(t)
	evt, err := p.GetEvent(t.Context(), room, eventID)
	require.NoError(t, err)
	evt.RoomID = room
	require.NoError(t, evt.Content.ParseRaw(evt.Type))
	return p.machine.DecryptMegolmEvent(t.Context(), evt)
}

// encrypt sends content encrypted as an event of the memory's type.
func (p *peer) encrypt(t testing.TB, room id.RoomID, eventType event.Type, content string) id.EventID {
	t.Helper()
	p.sync(t)
	encrypted, err := p.machine.EncryptMegolmEvent(t.Context(), room, eventType, json.RawMessage(content))
	if crypto.IsShareError(err) {
		members, memberErr := p.StateStore.GetRoomJoinedOrInvitedMembers(t.Context(), room)
		require.NoError(t, memberErr)
		require.NoError(t, p.machine.ShareGroupSession(t.Context(), room, members))
		encrypted, err = p.machine.EncryptMegolmEvent(t.Context(), room, eventType, json.RawMessage(content))
	}
	require.NoError(t, err)
	sent, err := p.SendMessageEvent(t.Context(), room, event.EventEncrypted, encrypted)
	require.NoError(t, err)
	return sent.EventID
}
