//go:build goolm && peers

package peers

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/adapter"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/jssdk"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// startJS starts a matrix-js-sdk on a new device of an account, and stops it when the test ends.
func startJS(t testing.TB, account rig.Account) *jssdk.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	client, err := jssdk.Start(ctx, jssdk.Options{
		Dir: t.TempDir(), Homeserver: account.HomeserverURL.String(), User: account.UserID.String(), Password: account.Password, Progress: os.Stderr,
	})
	require.NoError(t, err)
	t.Cleanup(client.End)
	return client
}

// sealed returns the settings of a memory that encrypts, with a new key store.
func sealed(t testing.TB, account rig.Account, room id.RoomID) matrix.Config {
	t.Helper()
	conf := account.Config(room)
	conf.Timeout = time.Minute
	conf.AccessToken, conf.UserID, conf.Password = "", account.UserID.String(), account.Password
	conf.StorePath, conf.StoreKey = filepath.Join(t.TempDir(), "keys"), "a passphrase"
	return conf
}

// Each reads what the other one has encrypted.
func TestJSReadsAndIsRead(t *testing.T) {
	ours, theirs := rig.Register(t), rig.Register(t)
	room := ours.NewRoom(t, rig.Encrypted, rig.Writable, theirs)
	js := startJS(t, theirs)
	memory := rig.Open(t, sealed(t, ours, room), e2ee.Enable())
	require.NoError(t, memory.Set("tea", []byte(`{"kind":"green"}`)))

	var event struct {
		Type    string
		Content map[string]json.RawMessage
	}
	require.NoError(t, js.Do(t.Context(), &event, "get", room, pointerOf(t, ours, room, "tea")))
	require.Equal(t, rig.MemoryType.Type, event.Type)
	require.JSONEq(t, `{"kind":"green"}`, string(event.Content["tea"]))

	var sent string
	require.NoError(t, js.Do(t.Context(), &sent, "send", room, rig.MemoryType.Type, map[string]any{"coffee": []int{1, 2}}))
	ours.Put(t, room, "", map[string]any{"coffee": map[string]string{"encrypted_val": sent}})
	eventually(t, func() bool { _, ok, err := memory.Get("coffee"); require.NoError(t, err); return ok }, "the memory reads what matrix-js-sdk has encrypted")
	rig.Has(t, memory, "coffee", `[1,2]`)
}

// What a memory has set up, matrix-js-sdk takes over: it reads from the backup what was
// encrypted before it was there, and devices that only talk to signed ones talk to each other.
func TestJSTakesOverTheBackup(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t, rig.Encrypted)
	conf := sealed(t, account, room)
	memory := rig.Open(t, conf, e2ee.Enable())
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	recovery, err := os.ReadFile(filepath.Join(conf.StorePath, "recovery_key"))
	require.NoError(t, err)

	js := startJS(t, account)
	pointer := pointerOf(t, account, room, "tea")
	require.Error(t, js.Do(t.Context(), nil, "get", room, pointer), "it was not there yet")
	var imported int
	eventually(t, func() bool {
		// It may not know the account's public keys yet, and then says that it could not import the private ones.
		err := js.Do(t.Context(), &imported, "takeOver", strings.TrimSpace(string(recovery)))
		if err != nil {
			require.ErrorContains(t, err, "importCrossSigningKeys failed")
		}
		return err == nil && imported > 0
	}, "the key is in the backup")
	var event struct{ Content map[string]json.RawMessage }
	require.NoError(t, js.Do(t.Context(), &event, "get", room, pointer))
	require.JSONEq(t, `"green"`, string(event.Content["tea"]))

	require.NoError(t, js.Do(t.Context(), nil, "onlySigned", true))
	require.NoError(t, memory.Set("tea", []byte(`"black"`)))
	require.NoError(t, js.Do(t.Context(), &event, "get", room, pointerOf(t, account, room, "tea")))
	require.JSONEq(t, `"black"`, string(event.Content["tea"]))
}

// What matrix-js-sdk has set up, a memory takes over.
func TestBackupOfJSIsTakenOver(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t, rig.Encrypted)
	js := startJS(t, account)
	var recovery, sent string
	require.NoError(t, js.Do(t.Context(), &recovery, "setUp"))
	require.NoError(t, js.Do(t.Context(), &sent, "send", room, rig.MemoryType.Type, map[string]any{"tea": "green"}))
	account.Put(t, room, "", map[string]any{"tea": map[string]string{"encrypted_val": sent}})
	eventually(t, func() bool {
		backup, err := account.GetKeyBackupLatestVersion(t.Context())
		require.NoError(t, err)
		return backup.Count > 0
	}, "the key is in the backup")
	js.End()

	conf := sealed(t, account, room)
	conf.RecoveryKey = recovery
	memory := rig.Open(t, conf, e2ee.Enable())
	rig.Has(t, memory, "tea", `"green"`)
}

// What matrix-js-sdk resets, a memory takes up while it runs: its keys go to the new backup.
func TestJSResetsTheBackup(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t, rig.Encrypted)
	js := startJS(t, account)
	var recovery string
	require.NoError(t, js.Do(t.Context(), &recovery, "setUp"))
	conf := sealed(t, account, room)
	conf.RecoveryKey = recovery
	memory := rig.Open(t, conf, e2ee.Enable())
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, js.Do(t.Context(), nil, "resetBackup"))
	eventually(t, func() bool {
		backup, err := account.GetKeyBackupLatestVersion(t.Context())
		require.NoError(t, err)
		return backup.Version != "1" && backup.Count > 0
	}, "the key is in the new backup")
	require.NoError(t, memory.Close())
	js.End()

	conf.StorePath = filepath.Join(t.TempDir(), "new")
	memory = rig.Open(t, conf, e2ee.Enable())
	rig.Has(t, memory, "tea", `"green"`)
}

// People whose client talks to signed devices only hear the bot, and are heard: the bot's
// device is signed from its first start on.
func TestJSThatTalksToSignedDevicesOnly(t *testing.T) {
	ours, theirs := rig.Register(t), rig.Register(t)
	room := ours.NewRoom(t, rig.Encrypted, rig.Writable, theirs)
	js := startJS(t, theirs)
	require.NoError(t, js.Do(t.Context(), nil, "setUp"))
	require.NoError(t, js.Do(t.Context(), nil, "onlySigned", true))
	memory := matrix.New(sealed(t, ours, room), matrix.WithLogger(rig.Log(t)), e2ee.Enable())
	ctx, stop := context.WithCancel(t.Context())
	bot := joe.New("bot", joe.WithLogger(zaptest.NewLogger(t)), joe.WithContext(ctx), memory, adapter.New(memory))
	bot.Respond("remember (.+) is (.+)", func(msg joe.Message) error {
		if err := bot.Store.Set(msg.Matches[0], msg.Matches[1]); err != nil {
			return err
		}
		return msg.RespondE("*" + msg.Matches[0] + "* is " + msg.Matches[1])
	})
	ended := make(chan error, 1)
	go func() { ended <- bot.Run() }()
	defer func() { stop(); require.NoError(t, <-ended) }()
	eventually(t, func() bool { keys, err := memory.Keys(); return err == nil && len(keys) == 0 }, "the bot starts")

	require.NoError(t, js.Do(t.Context(), nil, "send", room, "m.room.message", map[string]string{"msgtype": "m.text", "body": "remember tea is green"}))
	eventually(t, func() bool {
		var heard []struct{ Room, Body string }
		require.NoError(t, js.Do(t.Context(), &heard, "heard"))
		return slices.ContainsFunc(heard, func(m struct{ Room, Body string }) bool {
			return m.Room == room.String() && m.Body == "*tea* is green"
		})
	}, "the bot's answer")
	rig.Has(t, memory, "tea", `"green"`)
	var event struct{ Content map[string]json.RawMessage }
	require.NoError(t, js.Do(t.Context(), &event, "get", room, pointerOf(t, ours, room, "tea")))
	require.JSONEq(t, `"green"`, string(event.Content["tea"]))

	var sent string
	require.NoError(t, js.Do(t.Context(), &sent, "send", room, rig.MemoryType.Type, map[string]any{"coffee": "black"}))
	ours.Put(t, room, "", map[string]any{"coffee": map[string]string{"encrypted_val": sent}})
	eventually(t, func() bool { _, ok, err := memory.Get("coffee"); require.NoError(t, err); return ok }, "the memory hears of it")
	rig.Has(t, memory, "coffee", `"black"`)
}

// pointerOf returns the encrypted event that holds a key's value.
func pointerOf(t testing.TB, account rig.Account, room id.RoomID, key string) (pointer string) {
	t.Helper()
	var state map[string]struct {
		Pointer string `json:"encrypted_val"`
	}
	require.NoError(t, json.Unmarshal([]byte(account.Standing(t, room)[""]), &state))
	require.NotEmpty(t, state[key].Pointer)
	return state[key].Pointer
}
