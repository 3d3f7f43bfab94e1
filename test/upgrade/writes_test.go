package upgrade

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// What was acknowledged in the old room after its tombstone, before the memory has heard of that, goes along: what was
// set, what was changed and what was deleted.
func TestWrittenAfterTheTombstone(t *testing.T) {
	t.Parallel()
	rig.UpgradedInEachWay(t, rig.BothKinds, func(t *testing.T, layout matrix.StateKey, upgrade func(testing.TB, rig.Account, id.RoomID) id.RoomID) {
		l := lodging(t, layout)
		r := rig.Proxied{Account: l.owner, Memory: l.memory, Front: l.front, Room: l.room}
		l.set(t, map[string]string{"tea": `1`, "milk": `1`, "rum": `1`})
		r.InStep(t)
		restore := r.LoseSync(t)
		made := upgrade(t, l.owner, l.room)
		require.NoError(t, l.memory.Set("late", []byte(`1`)))
		require.NoError(t, l.memory.Set("milk", []byte(`2`)))
		was, err := l.memory.Delete("rum")
		require.NoError(t, err)
		require.True(t, was)
		want := map[string]string{"tea": `1`, "milk": `2`, "late": `1`}
		require.Equal(t, want, l.owner.Entries(t, l.room), "nobody has heard of the upgrade")
		restore()
		want["count"] = l.goesOnIn(t, made, "count")
		l.holds(t, made, want)
	})
}

// Handlers of two bots write while the room is upgraded, twice. No write fails, and each key is in the newest room as it was set
// last. It minds how long others take, so it runs alone.
func TestUpgradedWhileHandlersWrite(t *testing.T) {
	for name, layout := range rig.BothKinds {
		t.Run(name, func(t *testing.T) {
			rig.WithAndWithoutJournals(t, func(t *testing.T, journals bool) {
				way := "by hand"
				if journals {
					way = "by the homeserver"
				}
				upgradedWhileHandlersWrite(t, layout, rig.Upgrades[way], journals)
			})
		})
	}
}

func upgradedWhileHandlersWrite(t *testing.T, layout matrix.StateKey, upgrade func(testing.TB, rig.Account, id.RoomID) id.RoomID, journals bool) {
	const bots, handlers, apart = 2, 2, 4
	owner := rig.Register(t)
	room := owner.NewRoom(t, rig.Public, rig.Writable)
	var all []rig.Proxied
	for range bots {
		bot := rig.Register(t)
		_, err := bot.JoinRoomByID(t.Context(), room)
		require.NoError(t, err)
		conf := bot.Config(room)
		conf.SingleStateKey = layout
		if journals {
			conf.Journal = rig.Journal(t)
		}
		all = append(all, rig.Behind(t, rig.Proxy(t), owner, conf))
	}

	var mu sync.Mutex
	want := make(map[string]string)
	acknowledged := make([]atomic.Int32, bots)
	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop) })
	var writing sync.WaitGroup
	defer writing.Wait()
	defer end()
	for i, r := range all {
		for h := range handlers {
			writing.Go(func() {
				key, gone := fmt.Sprintf("%d-%d", i, h), fmt.Sprintf("%d-%d gone", i, h)
				for n := 1; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					if !assert.NoError(t, r.Set(key, fmt.Append(nil, n))) || !assert.NoError(t, r.Set(gone, fmt.Append(nil, n))) {
						return
					}
					mu.Lock()
					want[key], want[gone] = fmt.Sprint(n), fmt.Sprint(n)
					mu.Unlock()
					if n%2 == 0 {
						if was, err := r.Delete(gone); !assert.NoError(t, err) || !assert.True(t, was, "it was set, by nobody else") {
							return
						}
						mu.Lock()
						delete(want, gone)
						mu.Unlock()
					}
					acknowledged[i].Add(1)
				}
			})
		}
	}
	more := func() {
		t.Helper()
		before := []int32{acknowledged[0].Load(), acknowledged[1].Load()}
		rig.Eventually(rig.Settling)(t, func() bool {
			return t.Failed() || acknowledged[0].Load() > before[0]+apart && acknowledged[1].Load() > before[1]+apart
		}, "they write")
	}
	for range 2 {
		more()
		made := upgrade(t, owner, room)
		held := func() (n int) { return len(owner.Entries(t, made)) }
		rig.Eventually(rig.Settling)(t, func() bool { return t.Failed() || held() >= bots*handlers }, "they come to the new room")
		room = made
	}
	more()
	end()
	writing.Wait()
	for i := range all {
		rig.Flush(t, all[i].Memory, rig.Delivering)
		all[i].Room = room
	}
	rig.Settle(t, want, rig.Lasting, all...)
}

// One of two memories hears of the upgrade late. It brings nothing back that the other has deleted or changed in the new
// room meanwhile, and what it was acknowledged itself goes along.
func TestWhoHearsLateBringsNothingBack(t *testing.T) {
	t.Parallel()
	rig.UpgradedInEachWay(t, rig.BothKinds, func(t *testing.T, layout matrix.StateKey, upgrade func(testing.TB, rig.Account, id.RoomID) id.RoomID) {
		l := lodging(t, layout)
		late := rig.Register(t)
		_, err := late.JoinRoomByID(t.Context(), l.room)
		require.NoError(t, err)
		conf := late.Config(l.room)
		conf.SingleStateKey = layout
		r := rig.Behind(t, rig.Proxy(t), l.owner, conf)
		l.set(t, map[string]string{"tea": `1`, "milk": `1`, "rum": `1`})
		eventually(t, func() bool { return len(rig.Entries(t, r.Memory)) == 3 }, "the other has heard of all")
		restore := r.LoseSync(t)

		made := upgrade(t, l.owner, l.room)
		want := map[string]string{"rum": `1`, "milk": `2`, "count": l.goesOnIn(t, made, "count")}
		_, err = l.memory.Delete("tea")
		require.NoError(t, err)
		require.NoError(t, l.memory.Set("milk", []byte(`2`)))
		l.holds(t, made, want)
		require.NoError(t, r.Set("late", []byte(`1`)))
		require.Contains(t, l.owner.Entries(t, l.room), "late", "it has not heard of the upgrade")
		want["late"] = `1`
		restore()
		rig.Eventually(rig.Settling)(t, func() bool { // which is nothing new in the old room
			require.NoError(t, r.Set("late", []byte(`1`)))
			return l.owner.Entries(t, made)["late"] == `1`
		}, "the other follows")
		rig.Settle(t, want, rig.Lasting, rig.Proxied{Account: l.owner, Memory: l.memory, Room: made}, rig.Proxied{Account: l.owner, Memory: r.Memory, Room: made})
	})
}

// What the journal holds of the old room goes along and is delivered in the new one only. The rooms are known by their
// old names to a start without a connection as well.
func TestUpgradedWithAJournal(t *testing.T) {
	t.Parallel()
	rig.UpgradedInEachWay(t, rig.BothKinds, func(t *testing.T, layout matrix.StateKey, upgrade func(testing.TB, rig.Account, id.RoomID) id.RoomID) {
		for name, down := range map[string]bool{"while it runs": false, "while it is down": true} {
			t.Run(name, func(t *testing.T) {
				l := newLodger(t, rig.Shared(t), layout, rig.Public, rig.Writable)
				l.conf.Journal = rig.Journal(t)
				l.conf.Rooms["alias"] = l.alias.String()
				timeout := l.conf.Timeout
				if down {
					l.conf.Timeout = 5 * time.Second // of which Close waits for two thirds
				}
				l.open(t)
				l.conf.Timeout = timeout
				delivered := map[string]string{"tea": `1`, "milk": `1`, "rum": `1`}
				l.set(t, delivered)
				_, err := l.memory.InRoom("alias").Keys()
				require.NoError(t, err)
				rig.Flush(t, l.memory, rig.Delivering)
				through := l.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.RateLimitBody(100)})
				want := maps.Clone(delivered)
				want["late"], want["milk"] = `1`, `2`
				delete(want, "rum")
				require.NoError(t, l.memory.Set("late", []byte(`1`)))
				require.NoError(t, l.memory.Set("milk", []byte(`2`)))
				_, err = l.memory.Delete("rum")
				require.NoError(t, err)
				if down {
					l.close(t)
				}
				made := upgrade(t, l.owner, l.room)
				if down {
					l.open(t)
				}
				require.Equal(t, want, rig.Entries(t, l.memory))
				eventually(t, func() bool { return l.bot.IsIn(t, made) }, "it follows")
				require.Equal(t, want, rig.Entries(t, l.memory))
				require.NoError(t, l.memory.Set("more", []byte(`1`)))
				want["more"] = `1`
				require.Equal(t, want, rig.Entries(t, l.memory))
				require.Equal(t, delivered, l.owner.Entries(t, l.room))
				through()
				rig.Flush(t, l.memory, rig.Delivering)
				l.holds(t, made, want)
				require.Equal(t, delivered, l.owner.Entries(t, l.room), "nothing was delivered in the old room")

				l.close(t)
				online := rig.Offline(l.front)
				l.open(t)
				require.Equal(t, want, rig.Entries(t, l.memory))
				for i, name := range []string{"main", "alias", l.alias.String(), l.room.String(), made.String()} {
					key := fmt.Sprint("off line ", i)
					require.NoError(t, l.memory.InRoom(name).Set(key, 1), name)
					want[key] = `1`
				}
				require.Equal(t, want, rig.Entries(t, l.memory))
				require.Equal(t, 5, l.memory.Pending().Changes)
				online()
				rig.Flush(t, l.memory, rig.Delivering)
				l.holds(t, made, want)
				require.Equal(t, delivered, l.owner.Entries(t, l.room))
			})
		}
	})
}

// A change that the old room has refused is tried in the new one.
func TestRefusedInTheOldRoom(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.BothKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLodger(t, rig.Shared(t), layout, rig.Public, rig.Writable)
			l.conf.Journal = rig.Journal(t)
			l.open(t)
			l.set(t, map[string]string{"tea": `1`})
			rig.Flush(t, l.memory, rig.Delivering)
			through := l.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.RateLimitBody(100)})
			require.NoError(t, l.memory.Set("milk", []byte(`1`)))
			l.owner.Need(t, l.room, 100)
			through()
			rig.Pending(t, l.memory, 1, 1)
			made := rig.Upgrades["by hand"](t, l.owner, l.room)
			rig.Pending(t, l.memory, 0, 0)
			l.holds(t, made, map[string]string{"tea": `1`, "milk": `1`})
			require.Equal(t, map[string]string{"tea": `1`}, l.owner.Entries(t, l.room))
		})
	}
}

// A room is upgraded while the homeserver refuses what the memory asks it on the way: it goes on once that works.
func TestUpgradeThatFailsAtFirst(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.BothKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lodging(t, layout)
			want := map[string]string{"tea": `1`}
			l.set(t, want)
			made := l.owner.NewRoom(t, rig.Public, rig.Writable, rig.Replacing(l.room))
			about := rig.InPath(made.String())
			works := l.front.Inject(homeserver.Fault{Match: about, Do: homeserver.Status(502, nil, "")})
			l.owner.Bury(t, l.room, made)
			rig.Delivers(t, func() bool { return l.front.Count(homeserver.Seen(about)) > 2 }, "it tries")
			require.Equal(t, want, rig.Entries(t, l.memory))
			works()
			rig.Delivers(t, func() bool {
				return l.memory.Set("milk", []byte(`1`)) == nil && l.owner.Entries(t, made)["milk"] == `1`
			}, "it follows")
			want["milk"] = `1`
			l.holds(t, made, want)
		})
	}
}

// A bot that was invited to the new room before it was the replacement of anything is told by the tombstone.
func TestInvitedBeforeTheTombstone(t *testing.T) {
	t.Parallel()
	l := newLodger(t, rig.Shared(t), matrix.OneStateKey, rig.Writable)
	l.open(t)
	want := map[string]string{"tea": `1`}
	l.set(t, want)
	made := l.owner.NewRoom(t, rig.Writable, rig.Replacing(l.room), rig.Invited(l.bot))
	l.owner.Bury(t, l.room, made)
	want["count"] = l.goesOnIn(t, made, "count")
	l.holds(t, made, want)
	_, err := l.owner.KickUser(t.Context(), l.room, &mautrix.ReqKickUser{UserID: l.bot.UserID})
	require.NoError(t, err)
	require.NoError(t, l.memory.Set("milk", []byte(`1`)), "it needs the old room no more")
	want["milk"] = `1`
	l.holds(t, made, want)
}

// What stands in the new room is a copy of what the old one held at some time, and a key is made to hold just that again: a homeserver
// makes no new event of it. Another memory, which hears of the upgrade late, does not bring back what the key held in between.
func TestSetBackToWhatWasCopied(t *testing.T) {
	t.Parallel()
	l := lodging(t, matrix.PerKey)
	other := rig.Register(t)
	_, err := other.JoinRoomByID(t.Context(), l.room)
	require.NoError(t, err)
	conf := other.Config(l.room)
	conf.SingleStateKey = matrix.PerKey
	late := rig.Behind(t, rig.Proxy(t), l.owner, conf)
	l.set(t, map[string]string{"tea": `1`, "milk": `1`})
	_, err = l.memory.Delete("tea")
	require.NoError(t, err)
	eventually(t, func() bool { return len(rig.Entries(t, late.Memory)) == 1 }, "the other has heard of all")
	hears := late.LoseSync(t)
	r := rig.Proxied{Account: l.owner, Memory: l.memory, Front: l.front, Room: l.room}
	r.InStep(t)
	follows := r.LoseSync(t)
	made := l.owner.NewRoom(t, rig.Public, rig.Writable, rig.Replacing(l.room))
	l.owner.Put(t, made, "tea", map[string]any{})
	l.owner.Bury(t, l.room, made)
	require.NoError(t, l.memory.Set("tea", []byte(`2`)))
	require.Equal(t, `2`, l.owner.Entries(t, l.room)["tea"], "it has not heard of the upgrade")

	follows()
	eventually(t, func() bool { return l.bot.IsIn(t, made) }, "it follows")
	was, err := l.memory.Delete("tea")
	require.NoError(t, err)
	require.True(t, was)
	hears()
	eventually(t, func() bool { return other.IsIn(t, made) }, "the other follows")
	rig.Settle(t, map[string]string{"milk": `1`}, rig.Lasting, rig.Proxied{Account: l.owner, Memory: l.memory, Room: made}, rig.Proxied{Account: l.owner, Memory: late.Memory, Room: made})
}
