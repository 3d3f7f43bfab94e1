package upgrade

import (
	"errors"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A room says that it replaces one that nobody knows any more, or whose homeserver is gone for good. The memory does without
// that, and the log says so.
func TestReplacesARoomThatIsGone(t *testing.T) {
	t.Parallel()
	for _, domain := range []string{"localhost", "gone.invalid"} {
		t.Run(domain, func(t *testing.T) {
			t.Parallel()
			l := newLodger(t, rig.Shared(t), matrix.OneStateKey)
			gone := "!gone:" + domain
			room := l.owner.NewRoom(t, l.bot, rig.Writable, rig.Replacing(id.RoomID(gone)))
			l.conf.DefaultRoom = room.String()
			l.open(t)
			l.set(t, map[string]string{"tea": `1`})
			require.Equal(t, map[string]string{"tea": `1`}, l.owner.Entries(t, room))
			rig.Warned(t, l.kept, gone, "can't be taken along")
		})
	}
}

// A tombstone that names no room is none: the memory goes on where it is.
func TestTombstoneThatNamesNoRoom(t *testing.T) {
	t.Parallel()
	l := newLodger(t, rig.Shared(t), matrix.OneStateKey, rig.Writable)
	_, err := l.owner.SendStateEvent(t.Context(), l.room, event.StateTombstone, "", map[string]any{"body": "It is over", "replacement_room": "#elsewhere:localhost"})
	require.NoError(t, err)
	l.open(t)
	rig.Within(t, slack, "a write", func() { l.set(t, map[string]string{"tea": `1`}) })
}

// The memory goes to a room that has been left meanwhile, as that was upgraded as well. What the journal holds goes to the last.
func TestGoesWhereThatHasLeft(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.BothKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLodger(t, rig.Shared(t), layout, rig.Public, rig.Writable)
			l.conf.Journal = rig.Journal(t)
			l.open(t)
			want := map[string]string{"tea": `1`, "milk": `1`}
			l.set(t, want)
			rig.Flush(t, l.memory, rig.Delivering)
			through := l.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.RateLimitBody(100)})
			l.set(t, map[string]string{"milk": `2`, "late": `1`})
			maps.Copy(want, map[string]string{"milk": `2`, "late": `1`})
			l.close(t)
			between := rig.Upgrades["by hand"](t, l.owner, l.room)
			last := rig.Upgrades["by hand"](t, l.owner, between)
			_, err := l.bot.JoinRoomByID(t.Context(), last)
			require.NoError(t, err)
			asks := rig.InPath("/joined_rooms")
			l.front.Reset()
			l.front.Inject(homeserver.Fault{Match: asks, Times: 1, Do: homeserver.Status(400, nil, `{"errcode": "M_UNKNOWN"}`)})
			l.open(t)
			eventually(t, func() bool { return l.front.Count(homeserver.Seen(asks)) > 0 }, "it could not go from the first room")
			_, err = l.memory.InRoom(last.String()).Keys()
			require.NoError(t, err)
			require.Equal(t, want, rig.Entries(t, l.memory))
			through()
			rig.Flush(t, l.memory, rig.Delivering)
			l.holds(t, last, want)
		})
	}
}

// Two memories share an account, and one of them hears of the upgrade when the other has noted that all was taken along. What
// it was acknowledged meanwhile goes along all the same.
func TestHearsLateOnTheSameAccount(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.BothKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lodging(t, layout)
			l.set(t, map[string]string{"tea": `1`})
			conf := l.bot.Config(l.room)
			conf.SingleStateKey = layout
			r := rig.Behind(t, rig.Proxy(t), l.owner, conf)
			restore := r.LoseSync(t)
			made := rig.Upgrades["by hand"](t, l.owner, l.room)
			l.goesOnIn(t, made, "count")
			eventually(t, func() bool {
				var noted map[string]any
				return l.bot.GetRoomAccountData(t.Context(), made, "dev.joe.memory", &noted) == nil
			}, "it is noted")
			require.NoError(t, r.Set("late", []byte(`1`)))
			require.Contains(t, l.owner.Entries(t, l.room), "late", "it has not heard of the upgrade")
			restore()
			eventually(t, func() bool { return l.owner.Entries(t, made)["late"] == `1` }, "what was set late goes along")
		})
	}
}

// The memory may not write what it took along, and is removed from the new room. Once it is in that again, all is there again.
func TestRemovedBeforeAllIsThere(t *testing.T) {
	t.Parallel()
	l := lodging(t, matrix.OneStateKey)
	l.set(t, map[string]string{"tea": `1`})
	made := l.owner.UpgradeByHand(t, l.room, rig.Public)
	eventually(t, func() bool { return errors.Is(l.memory.Set("milk", []byte(`1`)), matrix.ErrForbidden) }, "it follows")
	require.Equal(t, map[string]string{"tea": `1`}, rig.Entries(t, l.memory))
	_, err := l.owner.KickUser(t.Context(), made, &mautrix.ReqKickUser{UserID: l.bot.UserID})
	require.NoError(t, err)
	gone := func() bool { _, _, err := l.memory.Get("tea"); return errors.Is(err, matrix.ErrUnknownRoom) }
	eventually(t, gone, "it is told that it was removed")
	_, err = l.bot.JoinRoomByID(t.Context(), made)
	require.NoError(t, err)
	eventually(t, func() bool { return !gone() }, "it is in again")
	require.Equal(t, map[string]string{"tea": `1`}, rig.Entries(t, l.memory))
}
