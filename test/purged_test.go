package test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A guest is a bot in a room of somebody else's, of which sync brings nothing any more, so that
// only answers say what becomes of it there.
type guest struct {
	rig.Proxied // whose account is the bot's, and whose room another one
	owner       rig.Account
	room        id.RoomID
	kept        *rig.Buffer
}

func newGuest(t *testing.T, layout matrix.StateKey) *guest {
	t.Helper()
	owner, bot := rig.Register(t), rig.Register(t)
	conf := bot.Config(bot.NewRoom(t))
	room := owner.NewRoom(t, bot, rig.Writable)
	conf.SingleStateKey = layout
	log, kept := rig.KeepLog()
	g := &guest{rig.Behind(t, rig.Proxy(t), bot, conf, matrix.WithLogger(log)), owner, room, kept}
	require.NoError(t, g.set("tea", 1))
	return g
}

func (g *guest) set(key string, value int) error { return g.InRoom(g.room.String()).Set(key, value) }

// out checks that all that is asked of the room says that the bot is not in it, in the homeserver's
// words, and that the log has said it once.
func (g *guest) out(t *testing.T, words ...string) {
	t.Helper()
	room := g.InRoom(g.room.String())
	for range 2 {
		_, get := room.Get("tea", nil)
		_, keys := room.Keys()
		_, deleted := room.Delete("tea")
		for _, err := range []error{get, keys, deleted, g.set("tea", 3)} {
			require.ErrorIs(t, err, matrix.ErrUnknownRoom)
			for _, word := range words {
				require.ErrorContains(t, err, word)
			}
		}
	}
	warnings := g.kept.Lines("level=warning", g.room.String())
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0], "no longer in the room")
}

// The bot is removed from a room, and the first answer says so, though sync does not: so does all else from
// then on, until it is in again.
func TestRemovedAsAnAnswerSays(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.Layouts {
		for _, how := range []string{"kicked", "banned"} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				g := newGuest(t, layout)
				restore := g.LoseSync(t)
				if how == "kicked" {
					_, err := g.owner.KickUser(t.Context(), g.room, &mautrix.ReqKickUser{UserID: g.UserID, Reason: "as the test says"})
					require.NoError(t, err)
				} else {
					_, err := g.owner.BanUser(t.Context(), g.room, &mautrix.ReqBanUser{UserID: g.UserID, Reason: "as the test says"})
					require.NoError(t, err)
				}
				err := g.set("tea", 2)
				require.ErrorIs(t, err, matrix.ErrUnknownRoom)
				answered(t, err, "M_FORBIDDEN")
				words := "M_FORBIDDEN"
				if how == "kicked" { // then its own membership can be read still
					words = "as the test says"
				}
				require.ErrorContains(t, err, words)
				g.out(t, words)
				restore()

				if how == "banned" {
					_, err = g.owner.UnbanUser(t.Context(), g.room, &mautrix.ReqUnbanUser{UserID: g.UserID})
					require.NoError(t, err)
				}
				g.enter(t)
			})
		}
	}
}

// Where sync says first that the bot is no longer in a room, it says why.
func TestRemovedAsSyncSays(t *testing.T) {
	t.Parallel()
	g := newGuest(t, matrix.OneStateKey)
	_, err := g.owner.BanUser(t.Context(), g.room, &mautrix.ReqBanUser{UserID: g.UserID, Reason: "as the test says"})
	require.NoError(t, err)
	eventually(t, func() bool { _, err := g.InRoom(g.room.String()).Get("tea", nil); return err != nil }, "it is heard of")
	g.out(t, "as the test says")
	require.Len(t, g.kept.Lines("level=warning", "no longer in the room", `reason="as the test says"`), 1)
	_, err = g.owner.UnbanUser(t.Context(), g.room, &mautrix.ReqUnbanUser{UserID: g.UserID})
	require.NoError(t, err)
	g.enter(t)
}

// enter lets the bot into the room again, where all is as it was.
func (g *guest) enter(t *testing.T) {
	t.Helper()
	_, err := g.owner.InviteUser(t.Context(), g.room, &mautrix.ReqInviteUser{UserID: g.UserID})
	require.NoError(t, err)
	_, err = g.JoinRoomByID(t.Context(), g.room)
	require.NoError(t, err)
	g.works(t)
}

func (g *guest) works(t *testing.T) {
	t.Helper()
	eventually(t, func() bool { return g.set("milk", 1) == nil }, "it is in again")
	var value int
	ok, err := g.InRoom(g.room.String()).Get("tea", &value)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 1, value)
	require.Equal(t, map[string]string{"tea": `1`, "milk": `1`}, g.owner.Entries(t, g.room))
}

// A room is purged, of which sync says nothing. Here the proxy asks of another room that the homeserver does not know,
// so that the answers are its own.
func TestPurged(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.Layouts {
		for what, does := range map[string]func(*guest) error{
			"writes":                  func(g *guest) error { return g.set("tea", 2) },
			"writes what is there":    func(g *guest) error { return g.set("tea", 1) },
			"deletes what is not":     func(g *guest) error { _, err := g.InRoom(g.room.String()).Delete("coffee"); return err },
			"reads again after a gap": nil,
		} {
			t.Run(fmt.Sprintf("%s %s", name, what), func(t *testing.T) {
				t.Parallel()
				g := newGuest(t, layout)
				before, after := "/rooms/"+g.room.String(), "/rooms/!purged:"+g.UserID.Homeserver()
				found := g.Front.Inject(homeserver.Fault{Match: rig.InPath(before), Do: func(w http.ResponseWriter, q *http.Request, server http.Handler) {
					q.URL.Path, q.URL.RawPath = strings.Replace(q.URL.Path, before, after, 1), ""
					server.ServeHTTP(w, q)
				}})
				if what == "reads again after a gap" {
					g.LoseSync(t)()
				} else {
					require.ErrorIs(t, does(g), matrix.ErrUnknownRoom)
				}
				eventually(t, func() bool { _, err := g.InRoom(g.room.String()).Get("tea", nil); return err != nil }, "it is found out")
				g.out(t, "M_FORBIDDEN")
				found()
				g.works(t)
			})
		}
	}
}
