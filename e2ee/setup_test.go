//go:build goolm

package e2ee_test

import (
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// The set-up of cross-signing, secret storage and key backup is interrupted at
// each of its requests. The next start finishes it: after that, a lost store is
// restored with the recovery key, and the device is signed.
func TestInterruptedSetUpIsFinishedByTheNextStart(t *testing.T) {
	for _, at := range []struct {
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
		for how, fault := range map[string]homeserver.Action{
			"not made":    rig.Forbidden,
			"answer lost": homeserver.StatusAfter(http.StatusForbidden),
		} {
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
