package upgrade

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// stays waits until the memory writes no more in its room, as that was upgraded, and checks all that holds then: the
// error names both rooms, what was remembered can be read, and the log warns of it, once.
func (l *lodger) stays(t testing.TB, made id.RoomID, want map[string]string, says ...string) {
	t.Helper()
	eventually(t, func() bool {
		err := l.memory.Set("late", []byte(`"secret"`))
		if err == nil { // it has not heard of it yet
			_, err = l.memory.Delete("late")
		}
		return errors.Is(err, matrix.ErrUpgraded)
	}, "nothing more is written in the old room")
	rig.Within(t, slack, "a write in a room that was upgraded", func() {
		for _, err := range []error{
			l.memory.Set("tea", []byte(`"secret"`)),
			func() error { _, err := l.memory.Delete("tea"); return err }(),
			l.memory.InRoom(l.room.String()).Set("tea", 2),
		} {
			var failure *matrix.Error
			require.ErrorAs(t, err, &failure)
			require.ErrorIs(t, err, matrix.ErrUpgraded)
			require.Equal(t, l.room.String(), failure.Room)
			require.ErrorContains(t, err, l.room.String())
			require.ErrorContains(t, err, made.String())
			require.NotContains(t, err.Error(), "secret")
		}
	})
	got := rig.Entries(t, l.memory)
	delete(got, "late") // it may have been written before, and the bot could not take it back
	require.Equal(t, want, got)
	rig.Warned(t, l.kept, append(says, "The room was upgraded", l.room.String(), made.String())...)
}

// The homeserver does not let the bot join the new room. It writes no more, says what to do, and follows once it is invited,
// without a start; so it does where that comes after one.
func TestUpgradedToARoomThatIsClosed(t *testing.T) {
	t.Parallel()
	for way, upgrade := range map[string]func(t testing.TB, by rig.Account, room id.RoomID) id.RoomID{
		"by the homeserver": rig.Upgrades["by the homeserver"],
		"by hand": func(t testing.TB, by rig.Account, room id.RoomID) id.RoomID {
			return by.UpgradeByHand(t, room, rig.Writable)
		},
	} {
		for name, layout := range rig.BothKinds {
			for _, restarts := range []bool{false, true} {
				mode := "/without a start"
				if restarts {
					mode = "/with a start"
				}
				t.Run(way+"/"+name+mode, func(t *testing.T) {
					t.Parallel()
					rig.WithAndWithoutJournals(t, func(t *testing.T, journals bool) {
						l := newLodger(t, rig.Shared(t), layout, rig.Writable)
						if journals {
							l.conf.Journal = rig.Journal(t)
						}
						l.open(t)
						want := map[string]string{"tea": `"green"`}
						l.set(t, want)
						rig.Flush(t, l.memory, rig.Delivering)
						made := upgrade(t, l.owner, l.room)
						l.stays(t, made, want, "invite")
						if restarts {
							l.open(t)
							l.stays(t, made, want, "invite")
						}
						require.False(t, l.bot.IsIn(t, made))
						want = rig.Entries(t, l.memory)
						l.owner.InviteTo(t, made, l.bot)
						eventually(t, func() bool { return l.memory.Set("rum", []byte(`1`)) == nil }, "it follows")
						want["rum"] = `1`
						rig.Flush(t, l.memory, rig.Delivering)
						l.holds(t, made, want)
					})
				})
			}
		}
	}
}

// With FollowUpgrades off the memory stays where it is, writes no more, and can be read; after a start as well.
func TestUpgradesAreNotFollowed(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.BothKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLodger(t, rig.Shared(t), layout, rig.Public, rig.Writable)
			l.conf.FollowUpgrades = matrix.Off
			l.open(t)
			want := map[string]string{"tea": `"green"`}
			l.set(t, want)
			made := rig.Upgrades["by hand"](t, l.owner, l.room)
			l.stays(t, made, want, "follow_upgrades")
			l.open(t)
			l.stays(t, made, want, "follow_upgrades")
			require.False(t, l.bot.IsIn(t, made))
			require.Empty(t, l.owner.Entries(t, made))
		})
	}
}

// A handler is told apart from other faults that the memory writes no more.
func TestHandlerOfARoomThatWasUpgraded(t *testing.T) {
	t.Parallel()
	l := newLodger(t, rig.Shared(t), matrix.OneStateKey, rig.Public, rig.Writable)
	l.conf.FollowUpgrades = matrix.Off
	bot := rig.StartBot(t, l.conf)
	handler := func() error {
		if err := bot.Store.Set("tea", "green"); errors.Is(err, matrix.ErrUpgraded) {
			return fmt.Errorf("somebody has to look after the bot: %w", err)
		}
		return nil
	}
	require.NoError(t, handler())
	require.NoError(t, bot.Store.Set("tea", "black"))
	l.owner.UpgradeByHand(t, l.room)
	n := 0
	eventually(t, func() bool {
		n++
		return errors.Is(bot.Store.Set("count", n), matrix.ErrUpgraded)
	}, "it has heard of the upgrade")
	require.ErrorIs(t, handler(), matrix.ErrUpgraded)
	var tea string
	ok, err := bot.Store.Get("tea", &tea)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "black", tea)
}

// Somebody may send the tombstone, but not change the power levels: in a room of such a one the memory has no business. It is
// not joined, and where the bot is in it all the same, nothing is taken there.
func TestUpgradedBySomebodyWhoMayNot(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.BothKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLodger(t, rig.Shared(t), layout, rig.Public)
			mallory := rig.Register(t)
			_, err := mallory.JoinRoomByID(t.Context(), l.room)
			require.NoError(t, err)
			levels := map[string]any{
				"users":  map[string]any{l.owner.UserID.String(): 100, l.bot.UserID.String(): 50},
				"events": map[string]any{event.StateTombstone.Type: 0, event.StatePowerLevels.Type: 100},
			}
			_, err = l.owner.SendStateEvent(t.Context(), l.room, event.StatePowerLevels, "", levels)
			require.NoError(t, err)
			l.open(t)
			want := map[string]string{"tea": `"green"`}
			l.set(t, want)
			theirs := mallory.NewRoom(t, rig.Public, rig.Writable, rig.Replacing(l.room), rig.Invited(l.bot))
			mallory.Bury(t, l.room, theirs)
			l.stays(t, theirs, want)
			require.False(t, l.bot.IsIn(t, theirs))
			require.Empty(t, mallory.Entries(t, theirs))

			// As where the settings name their room, as after an alias was moved.
			l.conf.Rooms["main"] = theirs.String()
			l.open(t)
			require.Empty(t, rig.Entries(t, l.memory))
			require.NoError(t, l.memory.Set("rum", []byte(`1`)))
			require.Equal(t, map[string]string{"rum": `1`}, mallory.Entries(t, theirs))
		})
	}
}

// A tombstone names a room that does not say that it replaces this one.
func TestReplacementOfAnotherRoom(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.BothKinds {
		for kind, options := range map[string][]rig.RoomOption{
			"of none":    {rig.Public, rig.Writable},
			"of another": {rig.Public, rig.Writable, rig.Replacing("!another:localhost")},
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				l := lodging(t, layout)
				want := map[string]string{"tea": `"green"`}
				l.set(t, want)
				other := l.owner.NewRoom(t, options...)
				l.owner.Bury(t, l.room, other)
				l.stays(t, other, want)
				require.Empty(t, l.owner.Entries(t, other))
			})
		}
	}
}

// A room says that it replaces another, whose tombstone does not name it: nothing is taken there.
func TestRoomThatReplacesNone(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.BothKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lodging(t, layout)
			l.set(t, map[string]string{"tea": `"green"`})
			mallory := rig.Register(t)
			theirs := mallory.NewRoom(t, rig.Public, rig.Writable, rig.Replacing(l.room))
			_, err := l.bot.JoinRoomByID(t.Context(), theirs)
			require.NoError(t, err)
			require.NoError(t, l.memory.InRoom(theirs.String()).Set("rum", 1))
			require.Equal(t, map[string]string{"rum": `1`}, mallory.Entries(t, theirs))
			require.NoError(t, l.memory.Set("milk", []byte(`1`)))
			require.Equal(t, map[string]string{"tea": `"green"`, "milk": `1`}, l.owner.Entries(t, l.room))
		})
	}
}
