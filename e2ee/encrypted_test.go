//go:build goolm

package e2ee_test

import (
	"database/sql"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// hideEncryption has a proxy's homeserver say of no room that it is encrypted.
func hideEncryption(proxy *homeserver.Proxy) {
	proxy.Inject(homeserver.Fault{
		Match: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/state/m.room.encryption/") },
		Do:    homeserver.Status(http.StatusNotFound, nil, `{"errcode":"M_NOT_FOUND","error":"as the test says"}`),
	})
	var hide func(any)
	hide = func(answer any) {
		switch answer := answer.(type) {
		case map[string]any:
			for name, member := range answer {
				if name == "type" && member == event.StateEncryption.Type {
					answer[name] = "m.room.nothing"
				}
				hide(member)
			}
		case []any:
			for _, element := range answer {
				hide(element)
			}
		}
	}
	proxy.Inject(homeserver.Fault{Match: func(r *http.Request) bool { return r.Method == http.MethodGet }, Do: homeserver.Edit(hide)})
}

// openStore opens the database of a store that no bot uses.
func openStore(t testing.TB, conf matrix.Config) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(conf.StorePath, "keys.db"))
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

// A homeserver that hides from a bot that starts anew that the room is encrypted is sent
// nothing in the clear: the key store says what the room was, also one of an earlier
// version, and one that was restored from the backup.
func TestHomeserverHidesThatTheRoomIsEncrypted(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, conf *matrix.Config){
		"store": func(*testing.T, *matrix.Config) {},
		"store of an earlier version": func(t *testing.T, conf *matrix.Config) {
			db := openStore(t, *conf)
			_, err := db.Exec(`DROP TABLE matrix_memory_encrypted`)
			require.NoError(t, err)
			require.NoError(t, db.Close())
		},
		"restored store": func(t *testing.T, conf *matrix.Config) {
			conf.RecoveryKey = recoveryKey(t, conf.StorePath)
			conf.StorePath = filepath.Join(t.TempDir(), "new")
		},
	} {
		t.Run(name, func(t *testing.T) {
			bot, other := register(t), newPeer(t, register(t))
			room := bot.newRoom(t, other.account)
			conf := bot.config(t, room)
			memory := open(t, conf)
			require.NoError(t, memory.Set("tea", []byte(`"green"`)))
			require.NoError(t, memory.Close())

			change(t, &conf)
			lying, proxy := proxied(t, conf)
			hideEncryption(proxy)
			log, kept := rig.KeepLog()
			memory = matrix.New(lying, matrix.WithLogger(log), e2ee.Enable())
			require.NoError(t, memory.Open(t.Context()))
			defer memory.Close()
			for range 2 {
				require.NoError(t, memory.Set("coffee", []byte(`"black"`)))
				require.NoError(t, memory.Set("coffee", []byte(`"white"`)))
			}
			other.decrypt(t, room, bot.pointers(t, room)["coffee"])
			require.Equal(t, 1, strings.Count(kept.String(), "says that the room is not encrypted"), kept.String())
		})
	}
}

// What a bot says in a room in which it has only listened so far is encrypted as well, though
// the homeserver hides that the room is.
func TestBotSpeaksWhereEncryptionIsHidden(t *testing.T) {
	bot, person := register(t), newPeer(t, register(t))
	home, room := bot.NewRoom(t), bot.newRoom(t, person.account)
	conf := bot.config(t, home)
	require.NoError(t, open(t, conf).Close())

	lying, proxy := proxied(t, conf)
	hideEncryption(proxy)
	memory := matrix.New(lying, e2ee.Enable())
	robot := startBot(t, memory, func(*joe.Bot) {})
	eventually(t, func() bool { return robot.Adapter.Send("hello", room.String()) == nil }, "the bot does not speak")
	var last *event.Event
	eventually(t, func() bool {
		response, err := person.Messages(t.Context(), room, "", "", mautrix.DirectionBackward, nil, 1)
		require.NoError(t, err)
		last = response.Chunk[0]
		return last.Sender == bot.UserID && last.Type.Type != event.StateMember.Type
	}, "what the bot says is in the room's history")
	require.Equal(t, event.EventEncrypted.Type, last.Type.Type)
	require.Equal(t, "hello", person.decrypt(t, room, last.ID).Content.AsMessage().Body)
}

// A room whose m.room.encryption says nonsense stays encrypted, while the bot runs and after
// that, and who leaves it gets no new key.
func TestEncryptionBecomesNonsense(t *testing.T) {
	for _, nonsense := range []string{`{"algorithm":"org.example.rot13"}`, `{"algorithm":5,"rotation_period_msgs":"x"}`} {
		t.Run(nonsense, func(t *testing.T) {
			bot, other := register(t), newPeer(t, register(t))
			room := bot.newRoom(t, other.account)
			conf := bot.config(t, room)
			memory := open(t, conf)
			require.NoError(t, memory.Set("a", []byte(`1`)))
			_, err := bot.SendStateEvent(t.Context(), room, event.StateEncryption, "", event.Content{VeryRaw: []byte(nonsense)})
			require.NoError(t, err)
			other.decrypt(t, room, bot.pointers(t, room)["a"])
			require.NoError(t, memory.Close())
			memory = open(t, conf)
			require.NoError(t, memory.Set("b", []byte(`2`)))
			other.decrypt(t, room, bot.pointers(t, room)["b"])
			before := bot.sessionOf(t, room, "b")
			_, err = other.LeaveRoom(t.Context(), room)
			require.NoError(t, err)
			bot.requireNewKey(t, memory, room, "c", before)
		})
	}
}

// If it can't be kept that a room is encrypted, nothing goes out.
func TestStoreThatCantKeepWhatIsEncrypted(t *testing.T) {
	bot := register(t)
	room := bot.NewRoom(t)
	conf := bot.config(t, room)
	require.NoError(t, open(t, conf).Close())
	db := openStore(t, conf)
	_, err := db.Exec(`CREATE TRIGGER full BEFORE INSERT ON matrix_memory_encrypted BEGIN SELECT RAISE(FAIL, 'the disk is full'); END`)
	require.NoError(t, err)
	require.NoError(t, db.Close())

	memory := open(t, conf)
	require.NoError(t, memory.Set("in the clear", []byte(`1`)))
	_, err = bot.SendStateEvent(t.Context(), room, event.StateEncryption, "", &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1})
	require.NoError(t, err)
	n := byte('0')
	eventually(t, func() bool {
		n = '0' + (n-'0'+1)%10
		err = memory.Set("n", []byte{n})
		return err != nil
	}, "values still go out")
	require.ErrorContains(t, err, "noting in the key store that the room is encrypted")
	require.ErrorContains(t, err, "the disk is full")
	before := bot.Entries(t, room)
	require.Error(t, memory.Set("n", []byte(`"secret"`)))
	require.Equal(t, before, bot.Entries(t, room))
}

// A state event of the type m.room.encryption with a state key encrypts no room.
func TestEncryptionWithAStateKey(t *testing.T) {
	bot := register(t)
	room := bot.NewRoom(t)
	conf := bot.config(t, room)
	_, err := bot.SendStateEvent(t.Context(), room, event.StateEncryption, "x", &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1})
	require.NoError(t, err)
	for range 2 {
		memory := open(t, conf)
		require.NoError(t, memory.Set("tea", []byte(`"green"`)))
		require.Equal(t, map[string]string{"tea": `"green"`}, bot.Entries(t, room))
		require.NoError(t, memory.Close())
	}
}
