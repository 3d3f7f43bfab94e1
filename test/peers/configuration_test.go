//go:build goolm && peers

package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/opsdroid"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// startWith starts an opsdroid with the file of a folder, and stops it when the test ends.
func startWith(t testing.TB, dir, configuration string) *opsdroid.Bot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	bot, err := opsdroid.Start(ctx, opsdroid.Options{Dir: dir, Configuration: configuration, Progress: os.Stderr})
	require.NoError(t, err)
	t.Cleanup(bot.End)
	return bot
}

// load reads the very file that opsdroid was started with.
func load(t testing.TB, dir string) matrix.Config {
	t.Helper()
	conf, err := matrix.LoadConfig(filepath.Join(dir, "configuration.yaml"))
	require.NoError(t, err)
	return conf
}

// What opsdroid's documentation shows with every option, and a token: the token's device
// counts for both.
func TestConfigurationWithEveryOption(t *testing.T) {
	bot := rig.Register(t)
	main, other := bot.NewRoom(t), bot.NewRoom(t)
	dir := t.TempDir()
	theirs := startWith(t, dir, fmt.Sprintf(`
connectors:
  matrix:
    # Required
    mxid: %q
    password: "a password that is not needed"
    # A dictionary of rooms to connect to
    # One of these have to be named 'main'
    rooms:
      'main': %q
      'other':
        alias: %q
        send_m_notice: True
    # Optional
    access_token: %q  # directly provide the access token
    homeserver: %q
    nick: "Botty McBotface"  # The nick will be set on startup
    room_specific_nicks: False  # Look up room specific nicknames of senders
    device_name: "opsdroid"
    enable_encryption: False
    device_id: "opsdroid" # A unique string to use as an ID for a persistent opsdroid device
    store_path: %q
databases:
  matrix:
    default_room: main
    single_state_key: True
    should_encrypt: True
`, bot.UserID, bot.NewAlias(t, main), bot.NewAlias(t, other), bot.AccessToken, bot.HomeserverURL, filepath.Join(dir, "store")))
	log, kept := rig.KeepLog()
	memory := rig.Open(t, load(t, dir), matrix.WithLogger(log))
	require.Equal(t, bot.DeviceID, memory.Client().DeviceID)
	require.Contains(t, kept.String(), "the token's device counts")
	both(t, memory, theirs)
	require.Contains(t, bot.Standing(t, main)[""], `"ours":1`)
}

// The connector and the database as items of lists, as in older files, and a state event for
// each key.
func TestConfigurationOfLists(t *testing.T) {
	bot := rig.Register(t)
	room := bot.NewRoom(t)
	t.Setenv("BOT_PASSWORD", bot.Password)
	dir := t.TempDir()
	theirs := startWith(t, dir, fmt.Sprintf(`
connectors:
  - name: matrix
    homeserver: %s
    mxid: %q
    password: $BOT_PASSWORD
    rooms: {main: %q}
databases:
  - name: matrix
    single_state_key: false
`, bot.HomeserverURL, bot.UserID, room))
	both(t, rig.Open(t, load(t, dir)), theirs)
	require.Contains(t, bot.Standing(t, room), "ours")
}

// both checks that a memory and an opsdroid read each other.
func both(t testing.TB, memory *matrix.Memory, theirs *opsdroid.Bot) {
	t.Helper()
	require.NoError(t, memory.Set("ours", []byte(`1`)))
	answer, err := theirs.Get(t.Context(), "ours")
	require.NoError(t, err)
	require.Equal(t, "1", answer)
	require.NoError(t, theirs.Put(t.Context(), "theirs", `"2"`))
	eventually(t, func() bool { _, ok, err := memory.Get("theirs"); require.NoError(t, err); return ok }, "the memory hears of it")
	rig.Has(t, memory, "theirs", `"2"`)
}

// With the device and the store of an opsdroid that encrypts, a memory does not start, and
// says why. What opsdroid encrypted comes along as docs/encryption.md says.
func TestMovingFromAnOpsdroidThatEncrypts(t *testing.T) {
	bot := rig.Register(t)
	room := bot.NewRoom(t, rig.Encrypted)
	dir := t.TempDir()
	lines := fmt.Sprintf(`
connectors:
  matrix:
    homeserver: %s
    mxid: %q
    password: %q
    rooms: {main: %q}
    enable_encryption: true
    device_id: OPSDROID
    store_path: %q
databases:
  matrix:
    single_state_key: true
`, bot.HomeserverURL, bot.UserID, bot.Password, room, filepath.Join(dir, "store"))
	theirs := startWith(t, dir, lines)
	require.NoError(t, theirs.Put(t.Context(), "tea", `"green"`))
	theirs.End()

	memory := matrix.New(load(t, dir), matrix.WithLogger(rig.Log(t)), e2ee.Enable())
	require.ErrorContains(t, memory.Open(t.Context()), "the device OPSDROID has keys on the homeserver that are not in the key store")
	require.NoError(t, memory.Close())

	theirs = startWith(t, dir, lines+"    should_encrypt: false\n")
	value, err := theirs.Get(t.Context(), "tea")
	require.NoError(t, err)
	require.Equal(t, `"green"`, value)
	require.NoError(t, theirs.Put(t.Context(), "tea", value))
	require.Contains(t, bot.Standing(t, room)[""], "encrypted_val", "what is equal opsdroid does not write")
	_, err = theirs.Delete(t.Context(), "tea")
	require.NoError(t, err)
	require.NoError(t, theirs.Put(t.Context(), "tea", value))
	require.JSONEq(t, `{"tea":"green"}`, bot.Standing(t, room)[""])
	theirs.End()

	conf := load(t, dir)
	conf.DeviceID, conf.StorePath, conf.ShouldEncrypt = "", filepath.Join(t.TempDir(), "keys"), matrix.On
	memory = rig.Open(t, conf, e2ee.Enable())
	rig.Has(t, memory, "tea", `"green"`)
	require.NoError(t, memory.Set("tea", []byte(value)))
	require.False(t, strings.Contains(bot.Standing(t, room)[""], "green"))
	rig.Has(t, memory, "tea", `"green"`)
}
