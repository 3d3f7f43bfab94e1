package test

import (
	"maps"
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// Whoever runs another room writes there what joe.Auth would keep. However a handler
// is bound, nobody has more or fewer rights by that, and what joe.Auth stores,
// deletes and lists is the default room's, while other keys are those of the bound
// room.
func TestPermissionsStayHome(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			robot, owner := rig.Register(t), rig.Register(t)
			home, theirs := robot.NewRoom(t), owner.NewRoom(t, robot, rig.Writable)
			alice, mallory := "@alice:localhost", owner.UserID.String()
			forged := map[string]any{rig.Permissions + mallory: []any{"admin"}, rig.Permissions + alice: []any{}}
			if layout == matrix.PerKey {
				for key, scopes := range forged {
					owner.Put(t, theirs, key, map[string]any{key: scopes})
				}
			} else {
				owner.Put(t, theirs, string(layout), forged)
			}

			conf := robot.Config(home)
			conf.SingleStateKey = layout
			bot := rig.StartBot(t, conf)
			_, err := bot.Auth.Grant("admin", alice)
			require.NoError(t, err)
			var scopes []string
			_, err = bot.Memory.InRoom(theirs.String()).Get(rig.Permissions+mallory, &scopes)
			require.NoError(t, err)
			require.Equal(t, []string{"admin"}, scopes, "it is in the memory's format")

			stands := map[id.RoomID]map[string]any{ // in the rooms, by key
				home:   {rig.Permissions + alice: []any{"admin"}},
				theirs: maps.Clone(forged),
			}
			ordinary := make(map[id.RoomID][]string) // keys in the rooms
			check := func(when string) {
				t.Helper()
				for room, want := range stands {
					require.Equal(t, want, standing(t, robot, room), "%s, in %s", when, room)
				}
			}
			check("at the start")

			var do func()
			handler := func(joe.Message) error { do(); return nil }
			in := func(room id.RoomID, handler func(joe.Message) error) func(joe.Message) error {
				bound := bot.Memory.InEventRoom(handler)
				return func(msg joe.Message) error { msg.Channel = room.String(); return bound(msg) }
			}
			for _, test := range []struct {
				binding string
				handler func(joe.Message) error
				room    id.RoomID // that ordinary keys belong to
			}{
				{"none", handler, home},
				{"theirs", in(theirs, handler), theirs},
				{"home", in(home, handler), home},
				{"theirs in theirs", in(theirs, in(theirs, handler)), theirs},
				{"home in theirs", in(theirs, in(home, handler)), home},
				{"theirs in home", in(home, in(theirs, handler)), theirs},
			} {
				bot.Respond(test.binding, test.handler)
				handle := func(then func()) {
					t.Helper()
					ended := make(chan struct{}, 1)
					do = func() { then(); ended <- struct{}{} }
					bot.Say(theirs.String(), test.binding)
					require.Len(t, ended, 1, "the handler has run")
				}

				handle(func() {
					assert.NoError(t, bot.Auth.CheckPermission("admin.all", alice))
					assert.Equal(t, joe.ErrNotAllowed, bot.Auth.CheckPermission("admin", mallory))
					users, err := bot.Auth.Users()
					assert.NoError(t, err)
					assert.Equal(t, []string{alice}, users)
					keys, err := bot.Store.Keys()
					assert.NoError(t, err)
					assert.ElementsMatch(t, append(ordinary[test.room], rig.Permissions+alice), keys)
					ok, err := bot.Store.Get(rig.Permissions+mallory, nil)
					assert.NoError(t, err)
					assert.False(t, ok, "the forgery is read")
					was, err := bot.Store.Delete(rig.Permissions + mallory)
					assert.NoError(t, err)
					assert.False(t, was, "the forgery is deleted")
				})
				check(test.binding + ": nothing is granted")

				handle(func() {
					granted, err := bot.Auth.Grant("kitchen", mallory)
					assert.NoError(t, err)
					assert.True(t, granted)
					assert.NoError(t, bot.Auth.CheckPermission("kitchen", mallory))
					assert.Equal(t, joe.ErrNotAllowed, bot.Auth.CheckPermission("admin", mallory))
					assert.NoError(t, bot.Store.Set(test.binding, true))
				})
				stands[home][rig.Permissions+mallory] = []any{"kitchen"}
				stands[test.room][test.binding] = true
				ordinary[test.room] = append(ordinary[test.room], test.binding)
				check(test.binding + ": the bot grants something")

				handle(func() {
					revoked, err := bot.Auth.Revoke("kitchen", mallory)
					assert.NoError(t, err)
					assert.True(t, revoked)
					assert.Equal(t, joe.ErrNotAllowed, bot.Auth.CheckPermission("kitchen", mallory))
				})
				delete(stands[home], rig.Permissions+mallory)
				check(test.binding + ": the bot takes it back")
			}
		})
	}
}

// standing returns what the memory holds in a room, by key.
func standing(t *testing.T, account rig.Account, room id.RoomID) map[string]any {
	t.Helper()
	all := make(map[string]any)
	for _, content := range account.Standing(t, room) {
		maps.Copy(all, object(t, content))
	}
	return all
}
