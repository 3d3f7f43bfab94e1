package upgrade

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A lodger is a bot with a memory in a room of somebody else's, which is going to be upgraded.
type lodger struct {
	owner, bot rig.Account
	room       id.RoomID
	alias      id.RoomAlias // of the room
	front      *homeserver.Proxy
	conf       matrix.Config // without a connection but by way of front; the default room is the room, by its ID
	memory     *matrix.Memory
	kept       *rig.Buffer // what the memory said in its log
}

// newLodger makes a room and its accounts, but opens no memory.
func newLodger(t testing.TB, on rig.Server, layout matrix.StateKey, options ...rig.RoomOption) *lodger {
	t.Helper()
	l := &lodger{owner: on.NewAccount(t), bot: on.NewAccount(t), front: on.Proxy(t)}
	l.moveIn(t, layout, options...)
	return l
}

// moveIn makes the room.
func (l *lodger) moveIn(t testing.TB, layout matrix.StateKey, options ...rig.RoomOption) {
	t.Helper()
	l.room = l.owner.NewRoom(t, append(options, l.bot)...)
	l.alias = l.owner.NewAlias(t, l.room)
	l.conf = l.bot.Config(l.room)
	l.conf.Homeserver, l.conf.SingleStateKey = l.front.URL(), layout
}

// lodging opens the memory of one in a room that everybody may join and write.
func lodging(t testing.TB, layout matrix.StateKey) *lodger {
	t.Helper()
	l := newLodger(t, rig.Shared(t), layout, rig.Public, rig.Writable)
	l.open(t)
	return l
}

// open opens the memory with the settings as they are now, after it was closed if it was open.
func (l *lodger) open(t testing.TB) {
	t.Helper()
	l.close(t)
	log, kept := rig.KeepLog()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(kept)
		}
	})
	l.memory, l.kept = rig.Open(t, l.conf, matrix.WithLogger(log)), kept
}

func (l *lodger) close(t testing.TB) {
	t.Helper()
	if l.memory != nil {
		require.NoError(t, l.memory.Close())
	}
}

// set sets keys to values.
func (l *lodger) set(t testing.TB, values map[string]string) {
	t.Helper()
	for key, value := range values {
		require.NoError(t, l.memory.Set(key, []byte(value)))
	}
}

// goesOnIn writes until what is written comes to a room, and returns what it wrote last. No write fails.
func (l *lodger) goesOnIn(t testing.TB, room id.RoomID, key string) (value string) {
	t.Helper()
	n := 0
	eventually(t, func() bool {
		n++
		value = fmt.Sprint(n)
		require.NoError(t, l.memory.Set(key, []byte(value)))
		return l.owner.Entries(t, room)[key] == value
	}, "what is written comes to %s", room)
	return value
}

// holds waits until a room and the memory hold just that.
func (l *lodger) holds(t testing.TB, room id.RoomID, want map[string]string) {
	t.Helper()
	var differs rig.Difference
	eventually(t, func() bool {
		differs = rig.Compare("the memory", want, rig.Entries(t, l.memory)) + rig.Compare("the room", want, l.owner.Entries(t, room))
		return differs == ""
	}, "all is in %s%v", room, &differs)
}

// state returns which events a room's state is made of, but for its members.
func state(t testing.TB, account rig.Account, room id.RoomID) map[string]id.EventID {
	t.Helper()
	all, err := account.State(t.Context(), room)
	require.NoError(t, err)
	events := make(map[string]id.EventID)
	for eventType, byKey := range all {
		for stateKey, evt := range byKey {
			if eventType != event.StateMember {
				events[fmt.Sprintf("%s %q", eventType.Type, stateKey)] = evt.ID
			}
		}
	}
	return events
}

// A room is upgraded while its memory runs. What was remembered is there all the time and comes to
// the new room, where the memory goes on, by whatever name of the old room it is asked; the old one is
// left as it was. Others find in the new room what they would have in the old one.
func TestUpgraded(t *testing.T) {
	t.Parallel()
	rig.UpgradedInEachWay(t, rig.Layouts, func(t *testing.T, layout matrix.StateKey, upgrade func(testing.TB, rig.Account, id.RoomID) id.RoomID) {
		l := newLodger(t, rig.Shared(t), layout, rig.Public, rig.Writable)
		l.conf.Rooms["alias"] = l.alias.String()
		l.open(t)
		l.set(t, map[string]string{"tea": `"green"`, "milk": `1`, "gone": `1`})
		_, err := l.memory.Delete("gone")
		require.NoError(t, err)
		var handles []*matrix.Room
		for _, name := range []string{"main", "alias", l.alias.String(), l.room.String()} {
			handle := l.memory.InRoom(name)
			_, err := handle.Keys()
			require.NoError(t, err)
			handles = append(handles, handle)
		}

		made := upgrade(t, l.owner, l.room)
		want := map[string]string{"tea": `"green"`, "milk": `1`}
		require.Equal(t, want, rig.Entries(t, l.memory))
		want["count"] = l.goesOnIn(t, made, "count")
		require.Equal(t, want, rig.Entries(t, l.memory))
		l.holds(t, made, want)
		before := state(t, l.owner, l.room)

		was, err := l.memory.Delete("milk")
		require.NoError(t, err)
		require.True(t, was)
		delete(want, "milk")
		for _, name := range []string{"main", "alias", l.alias.String(), l.room.String(), made.String()} {
			handles = append(handles, l.memory.InRoom(name))
		}
		for i, handle := range handles {
			var tea string
			ok, err := handle.Get("tea", &tea)
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, "green", tea)
			key := fmt.Sprint("by handle ", i)
			require.NoError(t, handle.Set(key, i))
			want[key] = fmt.Sprint(i)
		}
		l.holds(t, made, want)

		other := rig.Opsdroid{Account: l.owner, Room: made, Layout: layout}
		read, err := other.Read(t.Context(), "tea")
		require.NoError(t, err)
		require.Equal(t, `"green"`, string(read["tea"]))
		require.NoError(t, other.Put(t.Context(), "theirs", `1`))
		want["theirs"] = `1`
		l.holds(t, made, want)
		require.Equal(t, before, state(t, l.owner, l.room), "the old room is left as it was")

		for _, name := range []string{l.room.String(), l.alias.String(), made.String()} { // after a start
			l.conf.Rooms["main"] = name
			l.open(t)
			require.Equal(t, want, rig.Entries(t, l.memory))
			require.NoError(t, l.memory.Set("by "+name, []byte(`1`)))
			want["by "+name] = `1`
		}
		l.holds(t, made, want)
		require.Equal(t, before, state(t, l.owner, l.room), "the old room is left as it was")
	})
}

// What was deleted, or changed, in the new room stays so, and in whichever order: that the old room has it does
// not bring it back, at no start.
func TestNothingComesBackFromTheOldRoom(t *testing.T) {
	t.Parallel()
	rig.UpgradedInEachWay(t, rig.BothKinds, func(t *testing.T, layout matrix.StateKey, upgrade func(testing.TB, rig.Account, id.RoomID) id.RoomID) {
		l := lodging(t, layout)
		l.set(t, map[string]string{"tea": `1`, "milk": `1`, "rum": `1`})
		made := upgrade(t, l.owner, l.room)
		want := map[string]string{"rum": `1`, "milk": `2`, "count": l.goesOnIn(t, made, "count")}
		_, err := l.memory.Delete("tea")
		require.NoError(t, err)
		require.NoError(t, l.memory.Set("milk", []byte(`2`)))
		l.holds(t, made, want)
		other := rig.Opsdroid{Account: l.owner, Room: made, Layout: layout}
		require.NoError(t, other.Delete(t.Context(), "rum"))
		delete(want, "rum")
		l.holds(t, made, want)
		for _, room := range []id.RoomID{l.room, made} {
			l.conf.Rooms["main"] = room.String()
			l.open(t)
			require.Equal(t, want, rig.Entries(t, l.memory))
			require.NoError(t, l.memory.Set("at", fmt.Appendf(nil, "%q", room)))
			want["at"] = fmt.Sprintf("%q", room)
			l.holds(t, made, want)
		}
	})
}

// Handlers are bound to the room that a message came from. Where that was upgraded, they are bound to the one that
// replaces it, whichever of the two the message names.
func TestHandlersOfAnUpgradedRoom(t *testing.T) {
	t.Parallel()
	for way, upgrade := range rig.Upgrades {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			l := newLodger(t, rig.Shared(t), matrix.OneStateKey, rig.Public, rig.Writable)
			home := l.bot.NewRoom(t)
			l.conf.Rooms["main"] = home.String()
			bot := rig.StartBot(t, l.conf)
			var failed error
			bot.Respond("remember (.+)", bot.Memory.InEventRoom(func(msg joe.Message) error {
				failed = bot.Store.Set(msg.Matches[0], 1)
				return nil
			}))
			remember := func(room id.RoomID, key string) {
				t.Helper()
				failed = fmt.Errorf("the handler did not run")
				bot.Say(room.String(), "remember "+key)
				require.NoError(t, failed)
			}
			remember(l.room, "before")
			made := upgrade(t, l.owner, l.room)
			n := 0
			want := map[string]string{"before": `1`}
			eventually(t, func() bool {
				n++
				key := fmt.Sprint("during ", n)
				want[key] = `1`
				remember(l.room, key)
				return l.owner.Entries(t, made)[key] != ""
			}, "what handlers remember comes to the new room")
			remember(l.room, "by the old one")
			remember(made, "by the new one")
			want["by the old one"], want["by the new one"] = `1`, `1`
			var differs rig.Difference
			eventually(t, func() bool {
				differs = rig.Compare("the room", want, l.owner.Entries(t, made))
				return differs == ""
			}, "all is in the new room%v", &differs)
			require.Empty(t, l.bot.Entries(t, home))
		})
	}
}

// A room is upgraded while the bot is down. It is found by the old ID as by the alias, which leads to the
// new room, and nothing is written in the old one.
func TestUpgradedWhileDown(t *testing.T) {
	t.Parallel()
	rig.UpgradedInEachWay(t, rig.Layouts, func(t *testing.T, layout matrix.StateKey, upgrade func(testing.TB, rig.Account, id.RoomID) id.RoomID) {
		for by, name := range map[string]func(*lodger) string{
			"ID":    func(l *lodger) string { return l.room.String() },
			"alias": func(l *lodger) string { return l.alias.String() },
		} {
			t.Run(by, func(t *testing.T) {
				l := lodging(t, layout)
				want := map[string]string{"tea": `"green"`, "milk": `1`}
				l.set(t, want)
				l.close(t)
				made := upgrade(t, l.owner, l.room)
				before := state(t, l.owner, l.room)
				l.conf.Rooms["main"] = name(l)
				l.open(t)
				require.Equal(t, want, rig.Entries(t, l.memory))
				require.NoError(t, l.memory.Set("rum", []byte(`1`)))
				want["rum"] = `1`
				l.holds(t, made, want)
				require.Equal(t, before, state(t, l.owner, l.room), "the old room is left as it was")
			})
		}
	})
}

// Three upgrades, one after the other, while the bot is down; in the rooms between others have written.
func TestUpgradedThreeTimesWhileDown(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.BothKinds {
		for _, by := range []string{"ID", "alias"} {
			t.Run(name+"/"+by, func(t *testing.T) {
				t.Parallel()
				l := lodging(t, layout)
				want := map[string]string{"tea": `"green"`, "milk": `1`}
				l.set(t, want)
				l.close(t)
				rooms := []id.RoomID{l.room}
				for i, way := range []string{"by hand", "by the homeserver", "by hand"} {
					made := rig.Upgrades[way](t, l.owner, rooms[i])
					if i < 2 {
						other := rig.Opsdroid{Account: l.owner, Room: made, Layout: layout}
						key := fmt.Sprint("in between ", i)
						require.NoError(t, other.Put(t.Context(), key, `1`))
						want[key] = `1`
					}
					rooms = append(rooms, made)
				}
				var before []map[string]id.EventID
				for _, room := range rooms[:3] {
					before = append(before, state(t, l.owner, room))
				}
				if by == "alias" {
					l.conf.Rooms["main"] = l.alias.String()
				}
				l.open(t)
				require.Equal(t, want, rig.Entries(t, l.memory))
				require.NoError(t, l.memory.Set("rum", []byte(`1`)))
				want["rum"] = `1`
				l.holds(t, rooms[3], want)
				for i, room := range rooms[:3] {
					require.Equal(t, before[i], state(t, l.owner, room), "room %d is left as it was", i)
				}
				handle := l.memory.InRoom(rooms[1].String())
				require.NoError(t, handle.Set("by a room between", 1))
				want["by a room between"] = `1`
				l.holds(t, rooms[3], want)
			})
		}
	}
}

// A room is upgraded again while the memory runs, and again.
func TestUpgradedAgain(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.BothKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lodging(t, layout)
			want := map[string]string{"tea": `"green"`}
			l.set(t, want)
			room := l.room
			for i, way := range []string{"by the homeserver", "by hand", "by the homeserver"} {
				room = rig.Upgrades[way](t, l.owner, room)
				key := fmt.Sprint("count ", i)
				want[key] = l.goesOnIn(t, room, key)
			}
			l.holds(t, room, want)
		})
	}
}

// What somebody wrote in the new room before the memory came stays, and what the memory had under the same keys does
// not go there. With a state event for each key that is so also for one that was deleted.
func TestWhatTheNewRoomHasStays(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.BothKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lodging(t, layout)
			l.set(t, map[string]string{"tea": `"green"`, "milk": `1`, "rum": `1`})
			made := l.owner.NewRoom(t, rig.Public, rig.Writable, rig.Replacing(l.room))
			other := rig.Opsdroid{Account: l.owner, Room: made, Layout: layout}
			require.NoError(t, other.Put(t.Context(), "tea", `"black"`))
			want := map[string]string{"tea": `"black"`, "milk": `1`, "rum": `1`}
			if layout == matrix.PerKey {
				l.owner.Put(t, made, "milk", json.RawMessage(`{}`))
				delete(want, "milk")
			}
			l.owner.Bury(t, l.room, made)
			want["count"] = l.goesOnIn(t, made, "count")
			l.holds(t, made, want)
		})
	}
}
