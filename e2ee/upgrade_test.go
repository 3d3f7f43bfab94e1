//go:build goolm

package e2ee_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// upgradedSecret is a value that stands nowhere else.
const upgradedSecret = "b3JhbmdlLXBla29l-from-the-old-room"

// changes keeps what is sent to a room by way of a proxy from now on.
func changes(proxy *homeserver.Proxy, room id.RoomID) *rig.Buffer {
	var sent rig.Buffer
	proxy.Inject(homeserver.Fault{
		Match: func(r *http.Request) bool {
			return r.Method != http.MethodGet && strings.Contains(r.URL.Path, room.String())
		},
		Do: func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			body, err := io.ReadAll(r.Body)
			if err == nil {
				fmt.Fprintf(&sent, "%s %s\n%s\n", r.Method, r.URL.RequestURI(), body)
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			server.ServeHTTP(w, r)
		},
	})
	return &sent
}

// goesOnIn writes until what is written comes to a room.
func (a account) goesOnIn(t testing.TB, memory *matrix.Memory, room id.RoomID) (value string) {
	t.Helper()
	n := 0
	eventually(t, func() bool {
		n++
		value = fmt.Sprint(n)
		require.NoError(t, memory.Set("count", []byte(value)))
		return a.Entries(t, room)["count"] != ""
	}, "what is written comes to the new room")
	return value
}

// requireThere checks that all pointers of a room are those of events that are in it.
func (a account) requireThere(t testing.TB, room id.RoomID, keys int) {
	t.Helper()
	eventually(t, func() bool {
		there := 0
		for _, eventID := range a.pointers(t, room) {
			if _, err := a.GetEvent(t.Context(), room, eventID); err == nil {
				there++
			}
		}
		return there == keys
	}, "each of %d keys points at an event of the new room", keys)
}

// An encrypted room is upgraded. The values are sent anew in the new room, for those who are there, whatever the homeserver
// has copied: a bot that never was in the old room reads them, and so does this one after a start. So are
// those of a room that was not encrypted before.
func TestEncryptedRoomIsUpgraded(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.Layouts {
		for kind, before := range map[string][]rig.RoomOption{"encrypted": {rig.Encrypted}, "becomes encrypted": nil} {
			for when, down := range map[string]bool{"while it runs": false, "while it is down": true} {
				t.Run(name+"/"+kind+"/"+when, func(t *testing.T) {
					t.Parallel()
					bot, other := register(t), register(t)
					room := bot.NewRoom(t, before...)
					conf, front := proxied(t, bot.config(t, room))
					conf.SingleStateKey = layout
					memory := open(t, conf)
					want := map[string]string{"tea": fmt.Sprintf("%q", upgradedSecret), "milk": `1.5`}
					for key, value := range want {
						require.NoError(t, memory.Set(key, []byte(value)))
					}
					require.Equal(t, want, rig.Entries(t, memory))
					if down {
						require.NoError(t, memory.Close())
					}
					made := bot.NewRoom(t, rig.Encrypted, rig.Writable, rig.Replacing(room), other.Account)
					sent := changes(front, made)
					theirs := other.config(t, made)
					theirs.SingleStateKey = layout
					second := open(t, theirs) // has a device there by now
					require.Empty(t, rig.Entries(t, second))
					bot.Bury(t, room, made)
					if down {
						memory = open(t, conf)
					}
					want["count"] = bot.goesOnIn(t, memory, made)
					require.Equal(t, want, rig.Entries(t, memory))
					bot.requireThere(t, made, len(want))
					rig.Eventually(30*time.Second)(t, func() bool {
						for key, value := range want {
							got, ok, err := second.Get(key)
							if err != nil || !ok || string(got) != value {
								return false
							}
						}
						return true
					}, "a bot that was only in the new room reads all")
					require.NotContains(t, sent.String(), upgradedSecret)
					require.Contains(t, sent.String(), "encrypted_val")

					require.NoError(t, memory.Close())
					memory = open(t, conf)
					require.Equal(t, want, rig.Entries(t, memory))
					bot.requireThere(t, made, len(want))
				})
			}
		}
	}
}

// The homeserver upgrades an encrypted room: on Dendrite it copies the pointers, which lead to nothing there.
func TestEncryptedRoomIsUpgradedByTheHomeserver(t *testing.T) {
	t.Parallel()
	for name, layout := range map[string]matrix.StateKey{"single": matrix.OneStateKey, "perkey": matrix.PerKey} {
		for when, down := range map[string]bool{"while it runs": false, "while it is down": true} {
			t.Run(name+"/"+when, func(t *testing.T) {
				t.Parallel()
				bot, other := register(t), register(t)
				room := bot.newRoom(t)
				conf := bot.config(t, room)
				conf.SingleStateKey = layout
				memory := open(t, conf)
				want := map[string]string{"tea": `"green"`, "milk": `1.5`}
				for key, value := range want {
					require.NoError(t, memory.Set(key, []byte(value)))
				}
				require.Equal(t, want, rig.Entries(t, memory))
				old := bot.pointers(t, room)
				if down {
					require.NoError(t, memory.Close())
				}
				made := bot.Upgrade(t, room)
				if down {
					memory = open(t, conf)
				}
				want["count"] = bot.goesOnIn(t, memory, made)
				require.Equal(t, want, rig.Entries(t, memory))
				bot.requireThere(t, made, len(want))
				now := bot.pointers(t, room)
				for key, eventID := range old {
					require.Equal(t, eventID, now[key], "the old room is left as it was")
					bot.requireRedacted(t, room, eventID, false)
				}

				require.NoError(t, memory.Close())
				memory = open(t, conf)
				require.Equal(t, want, rig.Entries(t, memory))
				bot.InviteTo(t, made, other.Account)
				_, err := other.JoinRoomByID(t.Context(), made)
				require.NoError(t, err)
				theirs := other.config(t, made)
				theirs.SingleStateKey = layout
				readBy(t, memory, open(t, theirs))
			})
		}
	}
}

// readBy waits until another bot reads what this one sets.
func readBy(t testing.TB, memory, second *matrix.Memory) {
	t.Helper()
	n := 0
	eventually(t, func() bool {
		n++
		require.NoError(t, memory.Set("rum", fmt.Append(nil, n)))
		got, ok, err := second.Get("rum")
		return err == nil && ok && string(got) != ""
	}, "the other bot reads what is set")
}

// The new room of an encrypted one is not encrypted. Nothing that was encrypted goes out in the clear by itself, and it can be
// read all the same.
func TestUpgradedRoomIsNotEncryptedAnyMore(t *testing.T) {
	t.Parallel()
	for name, layout := range map[string]matrix.StateKey{"single": matrix.OneStateKey, "perkey": matrix.PerKey} {
		for when, down := range map[string]bool{"while it runs": false, "while it is down": true} {
			t.Run(name+"/"+when, func(t *testing.T) {
				t.Parallel()
				bot := register(t)
				room := bot.newRoom(t)
				conf, front := proxied(t, bot.config(t, room))
				conf.SingleStateKey = layout
				memory := open(t, conf)
				secret := fmt.Sprintf("%q", upgradedSecret)
				require.NoError(t, memory.Set("tea", []byte(secret)))
				rig.Has(t, memory, "tea", secret)
				if down {
					require.NoError(t, memory.Close())
				}
				made := bot.NewRoom(t, rig.Replacing(room))
				sent := changes(front, made)
				bot.Bury(t, room, made)
				if down {
					memory = open(t, conf)
				}
				n := 0
				eventually(t, func() bool {
					n++
					err := memory.Set("plain", fmt.Append(nil, n))
					return err != nil || bot.Entries(t, made)["plain"] != ""
				}, "it has heard of the upgrade")
				rig.Has(t, memory, "tea", secret)
				require.NoError(t, memory.Close()) // what is to be mended has been by then
				require.NotContains(t, sent.String(), upgradedSecret)
				require.NotContains(t, fmt.Sprint(bot.Standing(t, made)), upgradedSecret)
				memory = open(t, conf)
				rig.Has(t, memory, "tea", secret)
				require.NoError(t, memory.Close())
				require.NotContains(t, sent.String(), upgradedSecret)
			})
		}
	}
}

// What the journal acknowledged in an encrypted room does not go out in the clear either where the room that replaces it is not
// encrypted. It is kept, the log says so, and once it is set there it goes out as that room is.
func TestJournalOfARoomThatIsNotEncryptedAnyMore(t *testing.T) {
	for name, layout := range map[string]matrix.StateKey{"single": matrix.OneStateKey, "perkey": matrix.PerKey} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bot := register(t)
			room := bot.newRoom(t)
			conf, front := bot.journalled(t, room)
			conf.SingleStateKey, conf.StoreKey, conf.Timeout = layout, "a passphrase", 10*time.Second
			log, kept := rig.KeepLog()
			memory := rig.Open(t, conf, e2ee.Enable(), matrix.WithLogger(log))
			secret := fmt.Sprintf("%q", upgradedSecret)
			made := bot.NewRoom(t, rig.Replacing(room))
			sent := changes(front, made)
			online := offline(front)
			require.NoError(t, memory.Set("tea", []byte(secret)))
			require.NoError(t, memory.Close())
			bot.Bury(t, room, made)
			online()
			memory = rig.Open(t, conf, e2ee.Enable(), matrix.WithLogger(log))
			refused := func() bool { return memory.Pending().Refused == 1 }
			delivers(t, refused, "it is refused")
			rig.Has(t, memory, "tea", secret)
			require.NoError(t, memory.Set("milk", []byte(`1`)))
			delivers(t, func() bool { return bot.Entries(t, made)["milk"] == "1" }, "all else goes out")
			require.NoError(t, memory.Close())
			require.NotEmpty(t, kept.Lines("level=warning", made.String(), "key=tea", "set in an encrypted one"))

			memory = rig.Open(t, conf, e2ee.Enable(), matrix.WithLogger(log))
			delivers(t, refused, "it is refused by the next start as well")
			require.NotContains(t, sent.String(), upgradedSecret)
			require.NotContains(t, fmt.Sprint(bot.Standing(t, made)), upgradedSecret)
			require.NoError(t, memory.Set("tea", []byte(`"open"`)))
			rig.Flush(t, memory, delivering)
			require.Equal(t, `"open"`, bot.Entries(t, made)["tea"])
			require.NoError(t, memory.Close())
		})
	}
}
