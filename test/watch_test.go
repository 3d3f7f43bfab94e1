package test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A lookout collects what Watch tells, until the test ends.
type lookout struct {
	changes chan matrix.Change
	errs    chan error
	ended   chan struct{}
}

func watch(t testing.TB, ctx context.Context, room *matrix.Room, prefix string) *lookout {
	t.Helper()
	l := &lookout{make(chan matrix.Change, 100), make(chan error, 100), make(chan struct{})}
	ctx, cancel := context.WithCancel(ctx)
	all := room.Watch(ctx, prefix)
	go func() {
		defer close(l.ended)
		for change, err := range all {
			if err != nil {
				l.errs <- err
			} else {
				l.changes <- change
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-l.ended })
	return l
}

// next returns the next change.
func (l *lookout) next(t testing.TB) (next matrix.Change) {
	t.Helper()
	eventually(t, func() bool {
		select {
		case next = <-l.changes:
			return true
		default:
			return false
		}
	}, "another change is told")
	return next
}

// ends waits until Watch has ended, with an error if it is to have one, and nothing was told that the test has
// not taken.
func (l *lookout) ends(t testing.TB, with error) {
	t.Helper()
	eventually(t, func() bool {
		select {
		case <-l.ended:
			return true
		default:
			return false
		}
	}, "Watch ends")
	require.Empty(t, l.changes)
	close(l.errs)
	var errs []error
	for err := range l.errs {
		errs = append(errs, err)
	}
	if with == nil {
		require.Empty(t, errs)
		return
	}
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], with)
}

// says checks a change, all but which event it is and when that was sent.
func says(t testing.TB, change matrix.Change, room id.RoomID, key, value string, by id.UserID) {
	t.Helper()
	require.Equal(t, room.String(), change.Room)
	require.Equal(t, key, change.Key)
	require.Equal(t, value, string(change.Value))
	require.Equal(t, value == "", change.Deleted)
	require.Equal(t, by.String(), change.Sender)
	require.WithinDuration(t, time.Now(), change.Time, 10*time.Minute)
}

// Watch tells what others and the memory itself set and delete under keys with a prefix, once, with who did
// so and in which event.
func TestWatchTellsWhatChanges(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bot, others := neighbours(t, layout)
			require.NoError(t, others.Put(t.Context(), "deploy.before", `1`))
			conf := bot.Config(others.Room)
			conf.SingleStateKey = layout
			memory := rig.Open(t, conf)
			room := memory.InRoom("main")
			all, some := watch(t, t.Context(), room, ""), watch(t, t.Context(), room, "deploy.")

			require.NoError(t, others.Put(t.Context(), "deploy.web", `{"version":3}`))
			for _, l := range []*lookout{all, some} {
				change := l.next(t)
				says(t, change, others.Room, "deploy.web", `{"version":3}`, others.UserID)
				evt, err := others.GetEvent(t.Context(), others.Room, id.EventID(change.EventID))
				require.NoError(t, err)
				require.Contains(t, string(evt.Content.VeryRaw), `deploy.web`)
				require.Equal(t, evt.Timestamp, change.Time.UnixMilli())
			}
			require.NoError(t, memory.Set("tea", []byte(`"green"`)))
			says(t, all.next(t), others.Room, "tea", `"green"`, bot.UserID)
			require.NoError(t, memory.Set("deploy.bytes", []byte("\x00not JSON")))
			for _, l := range []*lookout{all, some} {
				says(t, l.next(t), others.Room, "deploy.bytes", `{"dev.joe.bytes":"AG5vdCBKU09O"}`, bot.UserID)
			}
			require.NoError(t, others.Delete(t.Context(), "deploy.before"))
			for _, l := range []*lookout{all, some} {
				says(t, l.next(t), others.Room, "deploy.before", "", others.UserID)
			}
			eventually(t, func() bool { return len(rig.Entries(t, memory)) == 3 }, "the memory has heard of all")
			was, err := memory.Delete("tea")
			require.NoError(t, err)
			require.True(t, was)
			says(t, all.next(t), others.Room, "tea", "", bot.UserID)
			require.Empty(t, all.changes)
			require.Empty(t, some.changes)
		})
	}
}

// What memories set at the same moment is told once by all, and so is of two values for one key the one that
// stays, though they take each other's keys out of the room and put them back.
func TestWatchWhileMemoriesMeet(t *testing.T) {
	all := rig.Crowd(t, rig.Shared(t), 2, matrix.OneStateKey)
	var lookouts []*lookout
	for _, r := range all {
		lookouts = append(lookouts, watch(t, t.Context(), r.InRoom("main"), ""))
	}
	require.NoError(t, rig.Overtaken(t, all[0], func() error { return all[0].Set("a", []byte(`1`)) }, func() {
		require.NoError(t, all[1].Set("b", []byte(`2`)))
	}))
	rig.Settle(t, map[string]string{"a": `1`, "b": `2`}, rig.Lasting, all...)
	for _, l := range lookouts {
		told := []matrix.Change{l.next(t), l.next(t)}
		slices.SortFunc(told, func(a, b matrix.Change) int { return int(a.Key[0]) - int(b.Key[0]) })
		says(t, told[0], all[0].Room, "a", `1`, all[0].Memory.Client().UserID)
		says(t, told[1], all[0].Room, "b", `2`, all[1].Memory.Client().UserID)
		require.Empty(t, l.changes)
	}
}

// Who is slow misses what came between, and gets the last of each key.
func TestWatchWaitsForWhoIsSlow(t *testing.T) {
	bot := rig.Register(t)
	memory := rig.Open(t, bot.Config(bot.NewRoom(t)))
	var told []string
	changes := memory.InRoom("main").Watch(t.Context(), "")
	for i := range 5 {
		require.NoError(t, memory.Set("tea", fmt.Append(nil, i)))
		require.NoError(t, memory.Set(fmt.Sprint("cup ", i), []byte(`true`)))
	}
	for change, err := range changes {
		require.NoError(t, err)
		told = append(told, fmt.Sprintf("%s %s", change.Key, change.Value))
		if len(told) == 6 {
			break
		}
	}
	require.Equal(t, []string{"tea 4", "cup 0 true", "cup 1 true", "cup 2 true", "cup 3 true", "cup 4 true"}, told)
}

// Watch ends with either context, with the memory, and when the bot is removed from the room; where it can't
// begin it says why.
func TestWatchEnds(t *testing.T) {
	t.Parallel()
	bot, others := neighbours(t, matrix.OneStateKey)
	conf := bot.Config(bot.NewRoom(t))
	memory := rig.Open(t, conf)
	here, there := memory.InRoom("main"), memory.InRoom(others.Room.String())
	ctx, cancel := context.WithCancel(t.Context())
	ending := []*lookout{watch(t, ctx, here, ""), watch(t, t.Context(), here.WithContext(ctx), "")}
	staying, removed := watch(t, t.Context(), here, ""), watch(t, t.Context(), there, "")

	watch(t, t.Context(), memory.InRoom("nowhere"), "").ends(t, matrix.ErrUnknownRoom)
	cancel()
	for _, l := range ending {
		l.ends(t, nil)
	}
	_, err := others.KickUser(t.Context(), others.Room, &mautrix.ReqKickUser{UserID: bot.UserID, Reason: "good-bye"})
	require.NoError(t, err)
	removed.ends(t, matrix.ErrUnknownRoom)
	require.NoError(t, memory.Close())
	staying.ends(t, matrix.ErrClosed)
	watch(t, t.Context(), here, "").ends(t, matrix.ErrClosed)
}

// What happened while sync was away, or left something out, is told.
func TestWatchAfterAnOutage(t *testing.T) {
	for name, layout := range rig.BothKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bot, others := neighbours(t, layout)
			front := rig.Proxy(t)
			conf := bot.Config(others.Room)
			conf.SingleStateKey = layout
			r := rig.Behind(t, front, bot, conf)
			require.NoError(t, r.Set("tea", []byte(`"green"`)))
			l := watch(t, t.Context(), r.InRoom("main"), "")
			online := rig.Offline(front)
			require.NoError(t, others.Put(t.Context(), "tea", `"black"`))
			for i := range 30 { // more than a sync brings
				_, err := others.SendText(t.Context(), others.Room, fmt.Sprint(i))
				require.NoError(t, err)
			}
			online()
			rig.Delivers(t, func() bool { return len(l.changes) > 0 }, "the change is told")
			says(t, l.next(t), others.Room, "tea", `"black"`, others.UserID)
			require.Empty(t, l.changes)
		})
	}
}

// When a room is upgraded, Watch goes along, and tells nothing of what was taken along.
func TestWatchGoesAlong(t *testing.T) {
	rig.UpgradedInEachWay(t, rig.BothKinds, func(t *testing.T, layout matrix.StateKey, upgrade func(testing.TB, rig.Account, id.RoomID) id.RoomID) {
		owner, bot := rig.Register(t), rig.Register(t)
		room := owner.NewRoom(t, rig.Public, rig.Writable, bot)
		conf := bot.Config(room)
		conf.SingleStateKey = layout
		log, kept := rig.KeepLog()
		memory := rig.Open(t, conf, matrix.WithLogger(log))
		require.NoError(t, memory.Set("tea", []byte(`"green"`)))
		changes := watch(t, t.Context(), memory.InRoom(room.String()), "")
		replacement := upgrade(t, owner, room)
		others := rig.Opsdroid{Account: owner, Room: replacement, Layout: layout}
		rig.Delivers(t, func() bool { return len(kept.Lines("gone to the room that replaces it")) > 0 }, "the memory goes along")
		require.NoError(t, memory.Set("milk", []byte(`true`)))
		says(t, changes.next(t), replacement, "milk", `true`, bot.UserID)
		require.NoError(t, others.Put(t.Context(), "tea", `"black"`))
		says(t, changes.next(t), replacement, "tea", `"black"`, owner.UserID)
		require.Empty(t, changes.changes)
	})
}

// A bot's handlers hear what others change in its rooms, an operator with the bot's account among them, and not
// what it sets itself, with a journal as without.
func TestChangeEvent(t *testing.T) {
	rig.WithAndWithoutJournals(t, func(t *testing.T, journals bool) {
		bot, others := neighbours(t, matrix.OneStateKey)
		conf := bot.Config(bot.NewRoom(t))
		conf.Rooms["ops"] = others.Room.String()
		if journals {
			conf.Journal = rig.Journal(t)
		}
		heard := make(chan matrix.ChangeEvent, 100)
		hears := joe.ModuleFunc(func(conf *joe.Config) error {
			conf.RegisterHandler(func(evt matrix.ChangeEvent) { heard <- evt })
			return nil
		})
		next := func() (next matrix.Change) {
			t.Helper()
			eventually(t, func() bool {
				select {
				case evt := <-heard:
					next = evt.Change
					return true
				default:
					return false
				}
			}, "a handler hears of a change")
			return next
		}
		require.NoError(t, others.Put(t.Context(), "before", `true`))
		b := rig.StartBot(t, conf, hears)
		require.NoError(t, b.Store.Set("own", 1))
		ops := b.Memory.InRoom("ops")
		require.NoError(t, ops.Set("own", 1))
		require.NoError(t, b.Memory.Flush(t.Context())) // a program as opsdroid that had read the room before would take it away

		require.NoError(t, others.Put(t.Context(), "tea", `"green"`))
		says(t, next(), others.Room, "tea", `"green"`, others.UserID)
		require.NoError(t, ops.Set("own", 2))
		operator := bot.Config(id.RoomID(conf.Rooms["main"]))
		operator.Rooms["ops"] = conf.Rooms["ops"]
		second := rig.Open(t, operator)
		require.NoError(t, second.InRoom("ops").Set("tea", "white"))
		says(t, next(), others.Room, "tea", `"white"`, bot.UserID)
		require.NoError(t, second.Set("default", []byte(`true`)))
		says(t, next(), id.RoomID(conf.Rooms["main"]), "default", `true`, bot.UserID)
		require.NoError(t, b.Memory.Flush(t.Context()))
		require.NoError(t, others.Delete(t.Context(), "tea"))
		says(t, next(), others.Room, "tea", "", others.UserID)
		require.Empty(t, heard)
		require.NoError(t, b.Stop())

		if !journals {
			return
		}
		// What was changed while the bot was down is heard, once it uses the room.
		require.NoError(t, second.InRoom("ops").Set("meanwhile", 1))
		b = rig.StartBot(t, conf, hears)
		known, err := b.Memory.InRoom("ops").Get("own", nil)
		require.NoError(t, err)
		require.True(t, known)
		says(t, next(), others.Room, "meanwhile", `1`, bot.UserID)
		require.Empty(t, heard)
	})
}

// A handler may close the memory, and a bot that shuts down waits for no change that nobody takes.
func TestChangeEventWhileTheMemoryCloses(t *testing.T) {
	bot, others := neighbours(t, matrix.OneStateKey)
	closed := make(chan error)
	var b rig.Bot
	ready := make(chan struct{})
	b = rig.StartBot(t, bot.Config(others.Room), joe.ModuleFunc(func(conf *joe.Config) error {
		conf.RegisterHandler(func(matrix.ChangeEvent) { <-ready; closed <- b.Memory.Close() })
		return nil
	}))
	close(ready)
	for i := range 3 {
		require.NoError(t, others.Put(t.Context(), fmt.Sprint(i), `1`))
	}
	select {
	case err := <-closed:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		require.FailNow(t, "the memory does not close")
	}
	require.NoError(t, b.Stop())
}
