package upgrade

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// What joe.Auth keeps goes along where nobody gets power over it by that: not where somebody who could not write the memory, or change
// the power levels, can do so in the new room. All else goes along in any case.
func TestPermissionsInAnUpgradedRoom(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.BothKinds {
		for how, test := range map[string]struct {
			upgrade func(t testing.TB, l *lodger, mallory rig.Account) id.RoomID
			goes    bool
		}{
			"by the homeserver": {func(t testing.TB, l *lodger, _ rig.Account) id.RoomID { return l.owner.Upgrade(t, l.room) }, true},
			"the same power": {func(t testing.TB, l *lodger, _ rig.Account) id.RoomID {
				return l.owner.UpgradeByHand(t, l.room, rig.Public, rig.Powers(map[id.UserID]int{l.owner.UserID: 100, l.bot.UserID: 50}))
			}, true},
			"power for another": {func(t testing.TB, l *lodger, mallory rig.Account) id.RoomID {
				powers := map[id.UserID]int{l.owner.UserID: 100, l.bot.UserID: 50, mallory.UserID: 50}
				return l.owner.UpgradeByHand(t, l.room, rig.Public, rig.Powers(powers))
			}, false},
			"power for all": {func(t testing.TB, l *lodger, _ rig.Account) id.RoomID {
				return l.owner.UpgradeByHand(t, l.room, rig.Public, rig.Writable)
			}, false},
		} {
			for _, down := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/down %t", name, how, down), func(t *testing.T) {
					t.Parallel()
					mallory := rig.Register(t)
					l := &lodger{owner: rig.Register(t), bot: rig.Register(t), front: rig.Proxy(t)}
					l.moveIn(t, layout, rig.Public, mallory, rig.Powers(map[id.UserID]int{l.owner.UserID: 100, l.bot.UserID: 50}))
					l.open(t)
					granted := rig.Permissions + "@alice:localhost"
					l.set(t, map[string]string{granted: `["admin"]`, "tea": `"green"`})
					if down {
						l.close(t)
					}
					made := test.upgrade(t, l, mallory)
					if down {
						l.open(t)
					}
					want := map[string]string{"tea": `"green"`}
					if test.goes {
						want[granted] = `["admin"]`
					}
					want["count"] = l.goesOnIn(t, made, "count")
					l.holds(t, made, want)
					if !test.goes {
						rig.Warned(t, l.kept, rig.Permissions, made.String())
					}
					l.open(t)
					require.Equal(t, want, rig.Entries(t, l.memory))
					ok, err := l.memory.InRoom(l.room.String()).Get(granted, nil)
					require.NoError(t, err)
					require.Equal(t, test.goes, ok)
				})
			}
		}
	}
}

// Even where the server copies what joe.Auth keeps, or somebody wrote it in the new room, nobody has it by an upgrade that may not:
// a room that the memory does not follow to grants nothing.
func TestPermissionsOfARoomThatIsNotFollowed(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.BothKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lodging(t, layout)
			l.set(t, map[string]string{"tea": `"green"`})
			mallory := rig.Register(t)
			granted := rig.Permissions + mallory.UserID.String()
			forged := rig.Opsdroid{Account: mallory, Room: mallory.NewRoom(t, rig.Public, rig.Writable, rig.Replacing(l.room)), Layout: layout}
			require.NoError(t, forged.Put(t.Context(), granted, `["admin"]`))
			_, err := mallory.JoinRoomByID(t.Context(), l.room)
			require.NoError(t, err)
			_, err = l.bot.JoinRoomByID(t.Context(), forged.Room)
			require.NoError(t, err)
			_, err = l.memory.InRoom(forged.Room.String()).Keys()
			require.NoError(t, err)
			rig.Has(t, l.memory, granted, "")
			require.NoError(t, l.memory.Set("milk", []byte(`1`)))
			require.Equal(t, map[string]string{"tea": `"green"`, "milk": `1`}, l.owner.Entries(t, l.room))
			l.open(t)
			rig.Has(t, l.memory, granted, "")
		})
	}
}

// Somebody whom the power levels of the old room held down may write the memory in the new one, as all may: nothing that
// joe.Auth keeps goes along.
func TestPermissionsWhereSomebodyWasHeldDown(t *testing.T) {
	t.Parallel()
	mallory := rig.Register(t)
	l := &lodger{owner: rig.Register(t), bot: rig.Register(t), front: rig.Proxy(t)}
	powers := map[id.UserID]int{l.owner.UserID: 100, l.bot.UserID: 50, mallory.UserID: -1}
	l.moveIn(t, matrix.OneStateKey, rig.Public, rig.Writable, rig.Powers(powers))
	l.open(t)
	l.set(t, map[string]string{rig.Permissions + "@alice:localhost": `["admin"]`, "tea": `"green"`})
	made := l.owner.UpgradeByHand(t, l.room, rig.Public, rig.Writable)
	l.holds(t, made, map[string]string{"count": l.goesOnIn(t, made, "count"), "tea": `"green"`})
}
