package test

import (
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// What joe.Auth keeps is never late: a grant is in the room when Grant returns, and what the
// journal has besides goes its own way. Without a connection there is no granting and no
// revoking.
func TestPermissionsAreWrittenThrough(t *testing.T) {
	t.Parallel()
	const alice, bob = "@alice:localhost", "@bob:localhost"
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			front := rig.Proxy(t)
			robot := rig.Register(t)
			home, other := robot.NewRoom(t), robot.NewRoom(t)
			conf := rig.Journalled(t, front, robot, home, layout)
			conf.Timeout = 5 * time.Second
			bot := rig.StartBot(t, conf)
			in := func(room string, do func() error) {
				t.Helper()
				var err error
				bound := bot.Memory.InEventRoom(func(joe.Message) error { err = do(); return nil })
				require.NoError(t, bound(joe.Message{Channel: room}))
				require.NoError(t, err)
			}
			grant := func(user string) func() error {
				return func() error { _, err := bot.Auth.Grant("admin", user); return err }
			}
			require.NoError(t, grant(alice)())
			require.Equal(t, []any{"admin"}, standing(t, robot, home)[rig.Permissions+alice], "when Grant has returned")
			in(other.String(), grant(bob)) // from a handler in another room as well
			require.Equal(t, []any{"admin"}, standing(t, robot, home)[rig.Permissions+bob])
			require.Equal(t, matrix.Pending{}, bot.Memory.Pending())

			for range 3 { // while ordinary changes of the same room and the same dictionary are pending
				require.NoError(t, bot.Store.Set("tea", "green"))
				_, err := bot.Auth.Revoke("admin", bob)
				require.NoError(t, err)
				require.NotContains(t, standing(t, robot, home), rig.Permissions+bob, "when Revoke has returned")
				require.NoError(t, bot.Store.Set("tea", "black"))
				require.NoError(t, grant(bob)())
				require.Contains(t, standing(t, robot, home), rig.Permissions+bob)
			}
			rig.Flush(t, bot.Memory, rig.Delivering)
			require.Equal(t, map[string]any{"tea": "black", rig.Permissions + alice: []any{"admin"}, rig.Permissions + bob: []any{"admin"}}, standing(t, robot, home))

			remove := front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Page(502)})
			require.NoError(t, bot.Store.Set("tea", "white"))
			_, err := bot.Auth.Grant("kitchen", bob)
			require.Error(t, err)
			_, err = bot.Auth.Revoke("admin", bob)
			require.Error(t, err)
			require.Equal(t, 1, bot.Memory.Pending().Changes, "tea, and nothing that failed")
			remove()
			rig.Flush(t, bot.Memory, rig.Delivering)
			require.Equal(t, map[string]any{"tea": "white", rig.Permissions + alice: []any{"admin"}, rig.Permissions + bob: []any{"admin"}}, standing(t, robot, home))
		})
	}
}

// A right that was taken away while the bot was down does not hold when it starts without a
// connection: nobody knows then who may do what. Once it has one, the right is gone, and does
// not come back.
func TestRevokedWhileTheBotWasDown(t *testing.T) {
	const alice, mallory = "@alice:localhost", "@mallory:localhost"
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			front := rig.Proxy(t)
			robot, others := neighbours(t, layout)
			conf := rig.Journalled(t, front, robot, others.Room, layout)
			conf.Timeout = 5 * time.Second
			bot := rig.StartBot(t, conf)
			for _, user := range []string{alice, mallory} {
				_, err := bot.Auth.Grant("admin", user)
				require.NoError(t, err)
			}
			require.NoError(t, bot.Store.Set("tea", "green"))
			rig.Flush(t, bot.Memory, rig.Delivering)
			require.NoError(t, bot.Stop())
			require.NoError(t, others.Delete(t.Context(), rig.Permissions+mallory))

			online := rig.Offline(front)
			bot = rig.StartBot(t, conf)
			rig.Within(t, 4*(conf.Timeout+slack), "asking who may do what", func() {
				for _, user := range []string{alice, mallory} {
					_, _, err := bot.Memory.Get(rig.Permissions + user)
					require.Error(t, err, "it is not known, neither way")
					err = bot.Auth.CheckPermission("admin", user)
					require.Error(t, err)
					require.NotErrorIs(t, err, joe.ErrNotAllowed)
				}
			})
			rig.Within(t, conf.Timeout, "a grant", func() {
				require.ErrorContains(t, bot.Memory.Set(rig.Permissions+alice, []byte(`["cook"]`)), "502", "it says why it can't be made")
			})
			var tea string
			ok, err := bot.Store.Get("tea", &tea)
			require.NoError(t, err)
			require.True(t, ok)
			require.NoError(t, bot.Store.Set("tea", "black"))
			last := []string{"tea", rig.Permissions + alice, rig.Permissions + mallory}
			keys, err := bot.Store.Keys()
			require.NoError(t, err)
			require.ElementsMatch(t, last, keys, "as it last heard; whether they are there still, and what they hold, is for Get to say")

			online()
			rig.Delivers(t, func() bool { return bot.Auth.CheckPermission("admin", alice) == nil }, "what is known again holds")
			require.ErrorIs(t, bot.Auth.CheckPermission("admin", mallory), joe.ErrNotAllowed)
			rig.Flush(t, bot.Memory, rig.Delivering)
			want := map[string]any{"tea": "black", rig.Permissions + alice: []any{"admin"}}
			require.Equal(t, want, standing(t, robot, others.Room))
			require.NoError(t, bot.Stop())
			bot = rig.StartBot(t, conf)
			rig.Delivers(t, func() bool { return bot.Auth.CheckPermission("admin", alice) == nil }, "it has a connection")
			require.ErrorIs(t, bot.Auth.CheckPermission("admin", mallory), joe.ErrNotAllowed)
			require.Equal(t, want, standing(t, robot, others.Room))
		})
	}
}
