//go:build goolm

package e2ee_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// claim takes one of a device's one-time keys, if there is one.
func (a account) claim(t testing.TB, owner id.UserID, device id.DeviceID) (key mautrix.OneTimeKey, found bool) {
	t.Helper()
	claimed, err := a.ClaimKeys(t.Context(), &mautrix.ReqClaimKeys{OneTimeKeys: mautrix.OneTimeKeysRequest{owner: {device: id.KeyAlgorithmSignedCurve25519}}})
	require.NoError(t, err)
	for _, key := range claimed.OneTimeKeys[owner][device] {
		return key, true
	}
	return key, false
}

// takeKeys takes all of a device's one-time keys. It returns its fallback key, if there is one.
func (a account) takeKeys(t testing.TB, owner id.UserID, device id.DeviceID) (fallback id.Curve25519) {
	t.Helper()
	for taken := 0; ; taken++ {
		if key, found := a.claim(t, owner, device); !found || key.Fallback {
			require.NotZero(t, taken)
			return key.Key
		}
	}
}

// oneTimeKeys returns how many one-time keys a client's device has left.
func oneTimeKeys(t testing.TB, client *mautrix.Client) int {
	t.Helper()
	answer, err := client.UploadKeys(t.Context(), &mautrix.ReqUploadKeys{})
	require.NoError(t, err)
	return answer.OneTimeKeyCounts.SignedCurve25519
}

// hasFallbackKeys says whether the homeserver knows fallback keys.
func hasFallbackKeys(t testing.TB) bool { return rig.Shared(t).Software() == homeserver.Synapse }

// has says whether a value is there and can be read.
func has(memory *matrix.Memory, key string) bool {
	_, ok, err := memory.Get(key)
	return ok && err == nil
}

// A stranger takes all one-time keys of the bot, while it is down or runs. A friend writes
// then, who has shared no key with the bot before, and the bot reads it: by the fallback key
// or, where the homeserver knows none, because the friend's bot tries again once there are keys.
func TestOneTimeKeysAreTaken(t *testing.T) {
	for name, down := range map[string]bool{"while the bot is down": true, "while it runs": false} {
		t.Run(name, func(t *testing.T) {
			bot, friend, stranger := register(t), register(t), register(t)
			room := bot.newRoom(t, friend)
			raise(t, bot, room, friend.UserID)
			conf := bot.config(t, room)
			memory, theirs := open(t, conf), open(t, friend.config(t, room))
			device := memory.Client().DeviceID
			if down {
				require.NoError(t, memory.Close())
			}
			stranger.takeKeys(t, bot.UserID, device)
			require.NoError(t, theirs.Set("first", []byte(`1`)))
			if down {
				memory = open(t, conf)
			}
			n := 0
			eventually(t, func() bool {
				if !hasFallbackKeys(t) {
					n++
					require.NoError(t, theirs.Set("later", fmt.Appendf(nil, "%d", n)))
				}
				return has(memory, "first")
			}, "what the friend wrote can't be read")
			if down {
				require.Greater(t, oneTimeKeys(t, memory.Client()), 40, "there are keys again")
			}
		})
	}
}

// A fallback key that was used is replaced, and then stays for a while, however often it is used.
// What was encrypted with the last one still comes. A homeserver that knows no fallback keys
// gets none.
func TestFallbackKeyIsReplaced(t *testing.T) {
	bot, friend, stranger := register(t), newPeer(t, register(t)), register(t)
	room := bot.newRoom(t, friend.account)
	conf := bot.config(t, room)
	memory := open(t, conf)
	device := memory.Client().DeviceID
	require.NoError(t, memory.Close())
	first := stranger.takeKeys(t, bot.UserID, device)
	if !hasFallbackKeys(t) {
		require.Empty(t, first)
		log, kept := rig.KeepLog()
		memory = rig.Open(t, conf, matrix.WithLogger(log), e2ee.Enable())
		require.Empty(t, stranger.takeKeys(t, bot.UserID, device))
		require.NotContains(t, kept.String(), "fallback")
		return
	}
	session, err := crypto.NewOutboundGroupSession(room, nil, nil)
	require.NoError(t, err)
	key := session.ShareContent()
	encrypted, err := friend.machine.EncryptToDevices(t.Context(), event.ToDeviceRoomKey, // with the first fallback key
		&mautrix.ReqSendToDevice{Messages: map[id.UserID]map[id.DeviceID]*event.Content{bot.UserID: {device: &key}}})
	require.NoError(t, err)

	memory = open(t, conf)
	second := stranger.takeKeys(t, bot.UserID, device)
	require.NotEqual(t, first, second, "the key that was used is not replaced")
	_, err = friend.SendToDevice(t.Context(), event.ToDeviceEncrypted, encrypted)
	require.NoError(t, err)
	session.Shared = true
	ciphertext, err := session.Encrypt(fmt.Appendf(nil, `{"room_id":%q,"type":%q,"content":{"tea":"green"}}`, room, valueType.Type))
	require.NoError(t, err)
	sent, err := friend.SendMessageEvent(t.Context(), room, event.EventEncrypted, &event.EncryptedEventContent{
		Algorithm: id.AlgorithmMegolmV1, SessionID: session.ID(), MegolmCiphertext: ciphertext}, mautrix.ReqSendEvent{DontEncrypt: true})
	require.NoError(t, err)
	bot.put(t, room, fmt.Sprintf(`{"tea":{"encrypted_val":%q}}`, sent.EventID))
	eventually(t, func() bool { return has(memory, "tea") }, "what came by the first fallback key can't be read")

	require.NoError(t, memory.Close())
	memory = open(t, conf)
	require.Equal(t, second, stranger.takeKeys(t, bot.UserID, device), "it was replaced while the first one is kept")

	require.NoError(t, memory.Close())
	t.Cleanup(e2ee.KeepFallback(0))
	open(t, conf)
	eventually(t, func() bool {
		key, _ := stranger.claim(t, bot.UserID, device)
		return key.Fallback && key.Key != first && key.Key != second
	}, "it is not replaced once the first one is forgotten")
}

// A device without keys when a value is written gets the room's key once it has some and the
// next value is written, and then reads both.
func TestDeviceWithoutKeysIsTriedAgain(t *testing.T) {
	bot, friend, stranger := register(t), newPeer(t, register(t)), register(t)
	room := bot.newRoom(t, friend.account)
	memory := open(t, bot.config(t, room))
	stranger.takeKeys(t, friend.UserID, friend.DeviceID)
	require.NoError(t, memory.Set("first", []byte(`1`)))
	first := bot.pointers(t, room)["first"]
	_, err := friend.tryDecrypt(t, room, first) // which publishes new keys
	require.Error(t, err)
	require.NoError(t, memory.Set("second", []byte(`2`)))
	n := 2
	eventually(t, func() bool {
		n++
		require.NoError(t, memory.Set("second", fmt.Appendf(nil, "%d", n)))
		_, err := friend.tryDecrypt(t, room, first)
		return err == nil
	}, "the device does not get the room's key")
	friend.decrypt(t, room, bot.pointers(t, room)["second"])
}

// claims counts how often one-time keys were claimed.
func claims(proxy *homeserver.Proxy) int {
	return proxy.Count(homeserver.Seen(to("POST", "/keys/claim")))
}

// However often a bot starts and writes, it takes one one-time key of each device: it
// goes on with what it has shared.
func TestStartsTakeNoOneTimeKeys(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	conf, proxy := proxied(t, bot.config(t, room))
	for n := range 4 {
		memory := open(t, conf)
		require.NoError(t, memory.Set("n", fmt.Appendf(nil, "%d", n)))
		other.decrypt(t, room, bot.pointers(t, room)["n"])
		require.NoError(t, memory.Close())
		require.Equal(t, 1, claims(proxy), "after start %d", n)
	}
}

// A store is copied while the bot is down. Whether the copy starts first or the store itself,
// only the first one goes on with the sessions; the other makes new ones, and members read
// what either writes.
func TestCopyOfARestingStore(t *testing.T) {
	for name, copyFirst := range map[string]bool{"the copy starts later": false, "the copy starts first": true} {
		t.Run(name, func(t *testing.T) {
			bot, other := register(t), newPeer(t, register(t))
			room := bot.newRoom(t, other.account)
			first, proxy := proxied(t, bot.config(t, room))
			n := 0
			write := func(conf matrix.Config) (taken int) {
				t.Helper()
				n++
				proxy.Reset()
				memory := open(t, conf)
				require.NoError(t, memory.Set("n", fmt.Appendf(nil, "%d", n)))
				evt := other.decrypt(t, room, bot.pointers(t, room)["n"])
				require.JSONEq(t, fmt.Sprintf(`{"n":%d}`, n), string(evt.Content.VeryRaw))
				require.NoError(t, memory.Close())
				return claims(proxy)
			}
			require.Equal(t, 1, write(first))
			second := first
			second.StorePath = restored(t, contents(t, first.StorePath))
			if copyFirst {
				first, second = second, first
			}
			require.Zero(t, write(first))
			require.Zero(t, write(first))
			require.Equal(t, 1, write(second))
			require.Zero(t, write(second), "it goes on with its own")
			require.Equal(t, 1, write(first), "the other one was used since")
		})
	}
}

// Where it is not sure that a store is the one which was last used, its sessions are not used
// on: the store of a bot that was killed, and one for which the homeserver can't be asked.
func TestSessionsOfAnUnsureStore(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	conf, proxy := proxied(t, bot.config(t, room))
	n := 0
	write := func() {
		t.Helper()
		n++
		memory := open(t, conf)
		require.NoError(t, memory.Set("n", fmt.Appendf(nil, "%d", n)))
		other.decrypt(t, room, bot.pointers(t, room)["n"])
		require.NoError(t, memory.Close())
	}
	write()
	line, kill := rig.StartVictim(t, victim(conf)) // writes, and does not close
	require.Equal(t, "<nil>", <-line)
	kill()
	require.Equal(t, 1, claims(proxy), "it goes on with the sessions")
	write()
	require.Equal(t, 2, claims(proxy), "the last one did not close")
	for taken, method := range []string{"GET", "PUT"} {
		remove := proxy.Inject(homeserver.Fault{Match: to(method, "/account_data/dev.joe.rest"), Times: 1, Do: rig.Forbidden})
		write()
		remove()
		require.Equal(t, 3+taken, claims(proxy), "%s fails", method)
		write()
		require.Equal(t, 3+taken, claims(proxy))
	}
}

// A copy of a store that is put back after the bot was killed finds that the sessions were
// used since.
func TestCopyAfterAKill(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	conf, proxy := proxied(t, bot.config(t, room))
	memory := open(t, conf)
	require.NoError(t, memory.Set("n", []byte(`1`)))
	require.NoError(t, memory.Close())
	rested := contents(t, conf.StorePath)
	line, kill := rig.StartVictim(t, victim(conf))
	require.Equal(t, "<nil>", <-line)
	kill()
	require.Equal(t, 1, claims(proxy), "it goes on with the sessions")

	conf.StorePath = restored(t, rested)
	memory = open(t, conf)
	require.NoError(t, memory.Set("n", []byte(`2`)))
	require.Equal(t, 2, claims(proxy), "the sessions were used since")
	for _, key := range []string{"tea", "n"} {
		other.decrypt(t, room, bot.pointers(t, room)[key])
	}
}

// A copy that is put back goes on with its own sessions later, and never with those that it
// came with, also with devices that it has sent nothing yet.
func TestCopyDoesNotUseWhatItCameWith(t *testing.T) {
	bot, one, two := register(t), newPeer(t, register(t)), newPeer(t, register(t))
	rooms := map[*peer]id.RoomID{one: bot.newRoom(t, one.account), two: bot.newRoom(t, two.account)}
	conf, proxy := proxied(t, bot.config(t, rooms[one]))
	conf.Rooms["two"] = rooms[two].String()
	n := 0
	write := func(to ...*peer) (taken int) {
		t.Helper()
		proxy.Reset()
		memory := open(t, conf)
		for _, member := range to {
			n++
			require.NoError(t, memory.InRoom(rooms[member].String()).Set("n", fmt.Appendf(nil, "%d", n)))
			member.decrypt(t, rooms[member], bot.pointers(t, rooms[member])["n"])
		}
		require.NoError(t, memory.Close())
		return claims(proxy)
	}
	require.Equal(t, 2, write(one, two))
	copied := contents(t, conf.StorePath)
	require.Zero(t, write(one, two))
	conf.StorePath = restored(t, copied)
	require.Equal(t, 1, write(one))
	require.Equal(t, 1, write(one, two))
	require.Zero(t, write(one, two))
}

// A session that could not be written to the store after it had encrypted something is not
// used on by the next start, which would begin from the same place.
func TestSessionsThatWereNotSaved(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	conf, proxy := proxied(t, bot.config(t, room))
	write := func(value string, while ...string) error {
		t.Helper()
		memory := open(t, conf)
		database, err := sql.Open("sqlite", filepath.Join(conf.StorePath, "keys.db"))
		require.NoError(t, err)
		defer database.Close()
		for _, statement := range while {
			_, err = database.Exec(statement)
			require.NoError(t, err)
		}
		err = memory.Set("n", []byte(value))
		require.NoError(t, memory.Close())
		return err
	}
	require.NoError(t, write("1"))
	require.ErrorContains(t, write("2", `CREATE TRIGGER full BEFORE UPDATE ON crypto_olm_session BEGIN SELECT RAISE(ABORT, 'the disk is full'); END`), "the disk is full")
	require.Equal(t, 1, claims(proxy))
	require.NoError(t, write("3", `DROP TRIGGER full`))
	require.Equal(t, 2, claims(proxy))
	other.decrypt(t, room, bot.pointers(t, room)["n"])
}
