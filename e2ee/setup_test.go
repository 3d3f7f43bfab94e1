//go:build goolm

package e2ee_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto/ssss"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// The set-up of cross-signing, secret storage and key backup is interrupted at
// each of its requests, by turns before and after the homeserver has acted. The next start
// finishes it: after that, a lost store is restored with the recovery key, and the device is signed.
func TestInterruptedSetUpIsFinishedByTheNextStart(t *testing.T) {
	t.Parallel()
	for i, at := range []struct {
		name, method, path string
		skip               int // how many such requests come through before
	}{
		{"the device's keys", "POST", "/keys/upload", 0},
		{"the storage's key", "PUT", "/account_data/m.secret_storage.key.", 0},
		{"the master key's secret", "PUT", "/account_data/m.cross_signing.master", 0},
		{"the self-signing key's secret", "PUT", "/account_data/m.cross_signing.self_signing", 0},
		{"the user-signing key's secret", "PUT", "/account_data/m.cross_signing.user_signing", 0},
		{"the cross-signing keys", "POST", "/keys/device_signing/upload", 1}, // first it asks for the password
		{"the device's signature", "POST", "/keys/signatures/upload", 0},
		{"the master key's signature", "POST", "/keys/signatures/upload", 1},
		{"the backup key's secret", "PUT", "/account_data/m.megolm_backup.v1", 0},
		{"the backup", "POST", "/room_keys/version", 0},
		{"the storage's default key", "PUT", "/account_data/m.secret_storage.default_key", 0},
	} {
		how, fault := "not made", rig.Forbidden
		if i%2 == 1 {
			how, fault = "answer lost", homeserver.StatusAfter(http.StatusForbidden)
		}
		t.Run(at.name+" "+how, func(t *testing.T) {
			bot, other := register(t), newPeer(t, register(t))
			room := bot.newRoom(t, other.account)
			direct := bot.config(t, room)
			conf, proxy := proxied(t, direct)
			seen, struck := 0, 0
			proxy.Inject(homeserver.Fault{
				Match: func(r *http.Request) bool {
					if !to(at.method, at.path)(r) {
						return false
					}
					seen++
					return seen > at.skip
				},
				Do: func(w http.ResponseWriter, r *http.Request, server http.Handler) { struck++; fault(w, r, server) },
			})
			t.Log(refuse(t, conf))
			require.Equal(t, 1, struck)

			memory := open(t, direct)
			require.NoError(t, memory.Set("tea", []byte(`"green"`)))
			require.Equal(t, id.TrustStateCrossSignedTOFU, other.trusts(t, bot, memory.Client().DeviceID))
			require.NoError(t, memory.Close())

			direct.RecoveryKey = recoveryKey(t, direct.StorePath)
			direct.StorePath = filepath.Join(t.TempDir(), "new")
			memory = open(t, direct)
			rig.Has(t, memory, "tea", `"green"`)
			require.Equal(t, id.TrustStateCrossSignedTOFU, other.trusts(t, bot, memory.Client().DeviceID))
		})
	}
}

// Who logs the device out takes its signature as well. The next start makes a new
// one.
func TestDeviceThatWasLoggedOutIsSignedAgain(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	conf := bot.config(t, bot.newRoom(t, other.account))
	memory := open(t, conf)
	device := memory.Client().DeviceID
	require.NoError(t, memory.Close())
	require.Equal(t, id.TrustStateCrossSignedTOFU, other.trusts(t, bot, device))

	client, err := mautrix.NewClient(rig.Shared(t).URL(), bot.UserID, "")
	require.NoError(t, err)
	t.Cleanup(client.Client.CloseIdleConnections)
	_, err = client.Login(t.Context(), &mautrix.ReqLogin{
		Type:             mautrix.AuthTypePassword,
		Identifier:       mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: bot.UserID.String()},
		Password:         bot.Password,
		DeviceID:         device,
		StoreCredentials: true,
	})
	require.NoError(t, err)
	_, err = client.Logout(t.Context())
	require.NoError(t, err)

	memory = open(t, conf)
	require.Equal(t, device, memory.Client().DeviceID)
	fresh := newPeer(t, register(t)) // has seen no signature before
	require.Equal(t, id.TrustStateCrossSignedTOFU, fresh.trusts(t, bot, device))
}

// trusts returns how far a member trusts a device, by what the homeserver says.
func (p *peer) trusts(t testing.TB, owner account, device id.DeviceID) id.TrustState {
	t.Helper()
	devices, err := p.machine.FetchKeys(t.Context(), []id.UserID{owner.UserID}, true)
	require.NoError(t, err)
	require.Contains(t, devices[owner.UserID], device)
	trust, err := p.machine.ResolveTrustContext(t.Context(), devices[owner.UserID][device])
	require.NoError(t, err)
	return trust
}

// However often a bot starts, the homeserver has no more of its one-time keys than its
// store keeps: with one that is forgotten nobody can send it a key.
func TestStartsPublishNoMoreOneTimeKeys(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	var first int
	for n := range 4 {
		memory := open(t, conf)
		published, err := memory.Client().UploadKeys(t.Context(), &mautrix.ReqUploadKeys{})
		require.NoError(t, err)
		count := published.OneTimeKeyCounts.SignedCurve25519
		if n == 0 {
			first = count
		}
		require.Equal(t, first, count)
		require.NoError(t, memory.Close())
	}
}

// The device that the first start logs in as, as its token is dead, stays: the store has its keys.
func TestDeadTokenAtTheFirstStart(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	conf := bot.config(t, room)
	conf.AccessToken = bot.AccessToken
	_, err := bot.LogoutAll(t.Context())
	require.NoError(t, err)
	memory := open(t, conf)
	device := memory.Client().DeviceID
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, memory.Close())
	bot = account{rig.Shared(t).Login(t, bot.UserID.Localpart())}
	_, err = bot.GetDeviceInfo(t.Context(), device)
	require.NoError(t, err)
	memory = open(t, conf)
	require.Equal(t, device, memory.Client().DeviceID)
	rig.Has(t, memory, "tea", `"green"`)
}

// storages returns the IDs of the secret storage keys that the account's data describes.
func (a account) storages(t testing.TB) (ids []string) {
	t.Helper()
	// Synapse answers a first sync from its cache, by the filter.
	filter := fmt.Sprintf(`{"room":{"rooms":[]},"account_data":{"limit":%d}}`, 1000+storagesAsked.Add(1))
	response, err := a.SyncRequest(t.Context(), 0, "", filter, false, event.PresenceOffline)
	require.NoError(t, err)
	for _, evt := range response.AccountData.Events {
		if keyID, ok := strings.CutPrefix(evt.Type.Type, "m.secret_storage.key."); ok {
			ids = append(ids, keyID)
		}
	}
	return ids
}

var storagesAsked atomic.Int64

// Where the homeserver wants the password and the bot has none, starts go on with what the first
// has begun, and no recovery key is told before it opens anything. With the password, the set-up
// is finished.
func TestSetUpWithoutThePassword(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	conf := bot.config(t, bot.newRoom(t, other.account))
	conf.Password, conf.AccessToken = "", bot.AccessToken
	log, kept := rig.KeepLog()
	var begun []string
	for range 3 {
		memory := matrix.New(conf, matrix.WithLogger(log), e2ee.Enable())
		rig.Within(t, conf.Timeout/2, "the start", func() { require.ErrorContains(t, memory.Open(t.Context()), "set password beside access_token") })
		require.NoError(t, memory.Close())
		begun = bot.storages(t)
		require.Len(t, begun, 1)
		require.NoFileExists(t, filepath.Join(conf.StorePath, "recovery_key"))
		require.NotContains(t, kept.String(), "new recovery key")
	}
	conf.Password = bot.Password
	memory := rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable())
	require.Equal(t, begun, bot.storages(t))
	require.Equal(t, 1, strings.Count(kept.String(), "new recovery key"))
	require.Equal(t, id.TrustStateCrossSignedTOFU, other.trusts(t, bot, memory.Client().DeviceID))
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	bot.backedUp(t, 1)
	require.NoError(t, memory.Close())

	conf.RecoveryKey = recoveryKey(t, conf.StorePath)
	conf.StorePath, conf.AccessToken = filepath.Join(t.TempDir(), "new"), ""
	rig.Has(t, open(t, conf), "tea", `"green"`)
}

// The account is set up, and the recovery key can't be written to its file. The start fails, and the
// next one writes it.
func TestRecoveryKeyThatCantBeWritten(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	inTheWay := filepath.Join(conf.StorePath, "recovery_key.new")
	require.NoError(t, os.MkdirAll(inTheWay, 0o700))
	require.ErrorContains(t, refuse(t, conf), "writing the account's recovery key")
	require.NoError(t, os.Remove(inTheWay))
	memory := open(t, conf)
	require.Len(t, bot.storages(t), 1)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	bot.backedUp(t, 1)
	require.NoError(t, memory.Close())
	conf.RecoveryKey = recoveryKey(t, conf.StorePath)
	conf.StorePath = filepath.Join(t.TempDir(), "new")
	rig.Has(t, open(t, conf), "tea", `"green"`)
}

// What a start has begun counts for nothing once another client has set up the account. The
// bot takes its recovery key, and wants no other.
func TestSetUpThatAnotherClientOvertakes(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	conf := bot.config(t, bot.newRoom(t, other.account))
	conf.Password, conf.AccessToken = "", bot.AccessToken
	require.ErrorContains(t, refuse(t, conf), "set password beside access_token")
	recovery := bot.newIdentity(t, nil, "")
	made, err := ssss.NewKey("")
	require.NoError(t, err)
	conf.RecoveryKey = made.RecoveryKey()
	require.ErrorIs(t, refuse(t, conf), ssss.ErrIncorrectSSSSKey)
	conf.RecoveryKey = recovery
	log, kept := rig.KeepLog()
	memory := rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable())
	require.Equal(t, id.TrustStateCrossSignedTOFU, other.trusts(t, bot, memory.Client().DeviceID))
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	bot.backedUp(t, 1)
	require.NotContains(t, kept.String(), "level=warning")
	require.NoFileExists(t, filepath.Join(conf.StorePath, "recovery_key"))
}

// The process is killed at each request of the set-up that changes something, before the homeserver
// has seen it and after it has acted, one after another over the same store. The start that comes
// through has set up one secret storage and one backup, and its recovery key opens all.
func TestProcessIsKilledAtEachStepOfTheSetUp(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	conf := bot.config(t, bot.newRoom(t, other.account))
	proxyConf, proxy := proxied(t, conf)
	steps := []string{"/keys/upload", "/account_data/", "/keys/device_signing/upload", "/keys/signatures/upload", "/room_keys/version"}
	struck := make(map[string]bool)
	for finished := false; !finished; {
		reached, never := make(chan struct{}), make(chan struct{})
		var mu sync.Mutex
		var step string
		seen := make(map[string]int)
		remove := proxy.Inject(homeserver.Fault{
			Match: func(r *http.Request) bool {
				if r.Method == http.MethodGet || !slices.ContainsFunc(steps, func(path string) bool { return strings.Contains(r.URL.Path, path) }) {
					return false
				}
				mu.Lock()
				defer mu.Unlock()
				if step != "" {
					return false
				}
				path, _, _ := strings.Cut(r.URL.Path, "/m.secret_storage.key.")
				seen[path]++
				step = fmt.Sprint(r.Method, path, seen[path])
				if struck[step] && struck["after "+step] {
					step = ""
				}
				return step != ""
			},
			Do: func(w http.ResponseWriter, r *http.Request, server http.Handler) {
				if pause := homeserver.PauseBefore; !struck[step] {
					pause(reached, never)(w, r, server)
				} else {
					homeserver.PauseAfter(reached, never)(w, r, server)
				}
			},
		})
		line, kill := rig.StartVictim(t, victim(proxyConf))
		select {
		case <-reached:
			kill()
			if struck[step] {
				step = "after " + step
			}
			struck[step] = true
			t.Log("killed", step)
		case text := <-line:
			require.Equal(t, "<nil>", text)
			finished = true
		case <-time.After(30 * time.Second):
			t.Fatal("the victim neither starts nor reaches the next step")
		}
		remove()
		require.LessOrEqual(t, len(bot.storages(t)), 1)
	}
	require.Greater(t, len(struck), 20)

	memory := open(t, conf)
	rig.Has(t, memory, "tea", `"black"`)
	require.Equal(t, id.TrustStateCrossSignedTOFU, other.trusts(t, bot, memory.Client().DeviceID))
	bot.backedUp(t, 1)
	require.Len(t, bot.storages(t), 1)
	require.NoError(t, memory.Close())
	conf.RecoveryKey = recoveryKey(t, conf.StorePath)
	conf.StorePath = filepath.Join(t.TempDir(), "new")
	rig.Has(t, open(t, conf), "tea", `"black"`)
}
