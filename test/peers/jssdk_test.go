//go:build goolm && peers

package peers

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
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

	var state map[string]struct {
		Pointer string `json:"encrypted_val"`
	}
	require.NoError(t, json.Unmarshal([]byte(ours.Standing(t, room)[""]), &state))
	var event struct {
		Type    string
		Content map[string]json.RawMessage
	}
	require.NoError(t, js.Do(t.Context(), &event, "get", room, state["tea"].Pointer))
	require.Equal(t, rig.MemoryType.Type, event.Type)
	require.JSONEq(t, `{"kind":"green"}`, string(event.Content["tea"]))

	var sent string
	require.NoError(t, js.Do(t.Context(), &sent, "send", room, rig.MemoryType.Type, map[string]any{"coffee": []int{1, 2}}))
	ours.Put(t, room, "", map[string]any{"tea": state["tea"], "coffee": map[string]string{"encrypted_val": sent}})
	eventually(t, func() bool { _, ok, err := memory.Get("coffee"); require.NoError(t, err); return ok }, "the memory reads what matrix-js-sdk has encrypted")
	rig.Has(t, memory, "coffee", `[1,2]`)
}
