package test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// absences are the ways in which a homeserver is away. Each returns a homeserver, the URL by
// which a bot reaches it, and how it goes away, which returns how it comes back.
var absences = map[string]func(t testing.TB) (on rig.Server, url string, leave func() (back func())){
	"refused": func(t testing.TB) (rig.Server, string, func() func()) {
		own := rig.Own(t)
		return own, own.URL(), func() func() {
			require.NoError(t, own.Stop())
			return func() { require.NoError(t, own.Restart(t.Context())) }
		}
	},
	"black hole": func(t testing.TB) (rig.Server, string, func() func()) {
		return strickenBy(t, homeserver.BlackHole())
	},
	"error pages": func(t testing.TB) (rig.Server, string, func() func()) {
		return strickenBy(t, homeserver.Page(502))
	},
}

// strickenBy is the absence of a homeserver behind a proxy that does something else with all
// requests.
func strickenBy(t testing.TB, do homeserver.Action) (on rig.Server, url string, leave func() (back func())) {
	front := rig.Proxy(t)
	return rig.Shared(t), front.URL(), func() func() { return front.Inject(homeserver.Fault{Do: do}) }
}

// A bot whose homeserver is away starts at once and goes on with what it knew: in the default
// room, which has an alias, and in others by name, alias and ID. Of a room that it never
// looked into it says nothing, and never that something is not there. Once the homeserver is
// back, all is in the rooms, and the bot hears of others again.
func TestStartsWithoutTheHomeserver(t *testing.T) {
	for way, absence := range absences {
		for _, layout := range []string{"single", "perkey"} {
			t.Run(way+"/"+layout, func(t *testing.T) {
				t.Parallel()
				startsWithoutTheHomeserver(t, absence, rig.Layouts[layout])
			})
		}
	}
}

func startsWithoutTheHomeserver(t *testing.T, absence func(testing.TB) (rig.Server, string, func() func()), layout matrix.StateKey) {
	on, url, leave := absence(t)
	bot := on.NewAccount(t)
	home, ops, unseen := bot.NewRoom(t), bot.NewRoom(t), bot.NewRoom(t)
	alias := bot.NewAlias(t, home).String()
	require.NoError(t, rig.Opsdroid{Account: bot, Room: unseen, Layout: layout}.Put(t.Context(), "theirs", `1`))
	conf := bot.Config(home)
	conf.Homeserver, conf.Journal, conf.SingleStateKey, conf.Timeout = url, rig.Journal(t), layout, 5*time.Second
	// A room that the bot finds by its alias and joins, and never looks into.
	owner := on.NewAccount(t)
	public, err := owner.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "public_chat", PowerLevelOverride: &event.PowerLevelsEventContent{Events: map[string]int{rig.MemoryType.Type: 0}}})
	require.NoError(t, err)
	found := owner.NewAlias(t, public.RoomID).String()
	require.NoError(t, rig.Opsdroid{Account: owner, Room: public.RoomID, Layout: layout}.Put(t.Context(), "theirs", `1`))
	conf.Rooms = map[string]string{"main": alias, "ops": ops.String(), "unseen": unseen.String(), "found": found}

	memory := rig.Open(t, conf)
	for key, value := range map[string]string{"tea": `"green"`, "milk": `1`, "sugar": `2`} {
		require.NoError(t, memory.Set(key, []byte(value)))
	}
	require.NoError(t, memory.InRoom("ops").Set("deploys", 1))
	rig.Flush(t, memory, rig.Delivering)
	rig.Delivers(t, func() bool {
		in, err := owner.JoinedMembers(t.Context(), public.RoomID)
		return err == nil && len(in.Joined) == 2
	}, "the bot has joined the room of the alias")
	require.NoError(t, memory.Close())

	back := leave()
	log, kept := rig.KeepLog()
	memory = matrix.New(conf, matrix.WithLogger(log))
	rig.Within(t, slack, "Open", func() { require.NoError(t, memory.Open(t.Context())) })
	t.Cleanup(func() { require.NoError(t, memory.Close()) })
	began := time.Now()
	rig.Within(t, slack, "all that is local", func() {
		want := map[string]string{"tea": `"green"`, "milk": `1`, "sugar": `2`}
		require.Equal(t, want, rig.Entries(t, memory))
		require.Equal(t, matrix.Pending{}, memory.Pending())

		require.NoError(t, memory.Set("tea", []byte(`"black"`)))
		require.NoError(t, memory.Set("coffee", []byte(`"strong"`)))
		for key, there := range map[string]bool{"milk": true, "nothing": false} {
			was, err := memory.Delete(key)
			require.NoError(t, err)
			require.Equal(t, there, was, key)
		}
		require.Equal(t, map[string]string{"tea": `"black"`, "sugar": `2`, "coffee": `"strong"`}, rig.Entries(t, memory))

		for _, name := range []string{"ops", ops.String()} {
			var deploys int
			ok, err := memory.InRoom(name).Get("deploys", &deploys)
			require.NoError(t, err, name)
			require.True(t, ok, name)
			require.NoError(t, memory.InRoom(name).Set("deploys", deploys+1))
		}
		for _, name := range []string{alias, home.String(), "main"} {
			var tea string
			ok, err := memory.InRoom(name).Get("tea", &tea)
			require.NoError(t, err, name)
			require.True(t, ok, name)
			require.Equal(t, "black", tea)
		}
		now := memory.Pending()
		require.Equal(t, 4, now.Changes, "tea, coffee, milk, and deploys once")
		require.Zero(t, now.Refused)
		require.False(t, now.Since.Before(began), "since the first of them")
		require.False(t, now.Since.After(time.Now()))

		for i, name := range []string{"found", found, public.RoomID.String()} {
			require.NoError(t, memory.InRoom(name).Set("ours", i), name)
			ok, err := memory.InRoom(name).Get("ours", nil)
			require.NoError(t, err, name)
			require.True(t, ok, name)
		}
		require.ErrorIs(t, memory.InRoom("found").Set("large", strings.Repeat("x", 70_000)), matrix.ErrTooLarge)
	})
	var asked sync.WaitGroup
	for _, name := range []string{"found", "unseen", "!nobody:localhost"} {
		asked.Go(func() { neverLoaded(t, memory.InRoom(name)) })
	}
	asked.Go(func() {
		assert.Error(t, memory.InRoom("!nobody:localhost").Set("ours", 1), "nobody knows that room")
	})
	asked.Wait()
	rig.Delivers(t, func() bool { return len(kept.Lines("level=warning")) > 0 }, "a homeserver that is away is a warning")
	require.Empty(t, kept.Lines("level=error"))

	back()
	rig.Pending(t, memory, 0, 0)
	rig.Flush(t, memory, rig.Delivering)
	require.Equal(t, map[string]string{"tea": `"black"`, "sugar": `2`, "coffee": `"strong"`}, bot.Entries(t, home))
	require.Equal(t, map[string]string{"deploys": `3`}, bot.Entries(t, ops))
	require.Equal(t, map[string]string{"theirs": `1`, "ours": `2`}, owner.Entries(t, public.RoomID))
	for name, want := range map[string]int{"found": 2, "unseen": 1} {
		keys, err := memory.InRoom(name).Keys()
		require.NoError(t, err)
		require.Len(t, keys, want)
	}
	require.NoError(t, rig.Opsdroid{Account: bot, Room: home, Layout: layout}.Put(t.Context(), "theirs", `1`))
	eventually(t, func() bool { _, ok, err := memory.Get("theirs"); return ok && err == nil }, "what others write is heard again")
}

// neverLoaded checks that nothing is said of what nobody has looked at.
func neverLoaded(t testing.TB, room *matrix.Room) {
	t.Helper()
	_, err := room.Get("theirs", nil)
	assert.Error(t, err, "Get")
	_, err = room.Keys()
	assert.Error(t, err, "Keys")
	_, err = room.Delete("theirs")
	assert.Error(t, err, "Delete")
}

// An alias is moved to another room while the bot is down. What is set through it off line
// goes to the room that it meant. Once the bot is connected it means the new one, also for a handle
// from before, and the log says so once.
func TestAliasMovedWhileTheBotWasDown(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front, bot := rig.Proxy(t), rig.Register(t)
			before, after := bot.NewRoom(t), bot.NewRoom(t)
			alias := bot.NewAlias(t, before)
			conf := rig.Journalled(t, front, bot, bot.NewRoom(t), layout)
			memory := rig.Open(t, conf)
			require.NoError(t, memory.InRoom(alias.String()).Set("deploys", 1))
			rig.Flush(t, memory, rig.Delivering)
			require.NoError(t, memory.Close())
			_, err := bot.DeleteAlias(t.Context(), alias)
			require.NoError(t, err)
			_, err = bot.CreateAlias(t.Context(), alias, after)
			require.NoError(t, err)

			online := rig.Offline(front)
			log, kept := rig.KeepLog()
			memory = rig.Open(t, conf, matrix.WithLogger(log))
			room := memory.InRoom(alias.String())
			require.NoError(t, room.Set("deploys", 2))
			var deploys int
			ok, err := room.Get("deploys", &deploys)
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, 2, deploys)
			online()
			rig.Flush(t, memory, rig.Delivering) // so it is connected
			require.NoError(t, room.Set("deploys", 3))
			rig.Flush(t, memory, rig.Delivering)
			require.Equal(t, map[string]string{"deploys": `2`}, bot.Entries(t, before))
			require.Equal(t, map[string]string{"deploys": `3`}, bot.Entries(t, after))
			rig.Warned(t, kept, alias.String(), before.String(), after.String())
		})
	}
}

// The homeserver goes away while the bot runs, for longer than the timeout. No change fails
// or waits for it, each is seen at once, and all are delivered when it is back.
func TestHomeserverAwayForLong(t *testing.T) {
	for way, absence := range absences {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			on, url, leave := absence(t)
			bot := on.NewAccount(t)
			home := bot.NewRoom(t)
			conf := bot.Config(home)
			conf.Homeserver, conf.Journal, conf.Timeout = url, rig.Journal(t), 3*time.Second
			memory := rig.Open(t, conf)
			const keys = 20
			n, want := 0, map[string]string{}
			set := func() {
				key, value := fmt.Sprint("key ", n%keys), fmt.Sprint(n)
				rig.Within(t, conf.Timeout, "a Set", func() { require.NoError(t, memory.Set(key, []byte(value))) })
				rig.Has(t, memory, key, value)
				want[key] = value
				n++
			}
			set()
			rig.Flush(t, memory, rig.Delivering)
			back, since := leave(), time.Now()
			rig.Delivers(t, func() bool { set(); return time.Since(since) > 3*conf.Timeout }, "it is away for long enough")
			now := memory.Pending()
			require.Equal(t, min(n-1, keys), now.Changes, "one for each key that was set since")
			require.Zero(t, now.Refused)
			set()
			back()
			rig.Flush(t, memory, rig.Delivering)
			require.Empty(t, rig.Compare("the room", want, bot.Entries(t, home)))
			require.Empty(t, rig.Compare("the memory", want, rig.Entries(t, memory)))
		})
	}
}

// Close delivers what is pending where there is a connection. Where there is none it does not
// wait for one, and no longer than the timeout where a homeserver does not say so. The next
// start delivers the rest.
func TestCloseWithChangesPending(t *testing.T) {
	for way, absence := range absences {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			on, url, leave := absence(t)
			bot := on.NewAccount(t)
			home := bot.NewRoom(t)
			conf := bot.Config(home)
			conf.Homeserver, conf.Journal, conf.Timeout = url, rig.Journal(t), time.Minute
			bound := slack
			if way != "refused" {
				conf.Timeout = 4 * time.Second
				bound += conf.Timeout
			}
			memory := rig.Open(t, conf)
			want := make(map[string]string)
			set := func(i int) {
				key := fmt.Sprint("key ", i)
				require.NoError(t, memory.Set(key, []byte(`1`)))
				want[key] = `1`
			}
			for i := range 20 {
				set(i)
			}
			require.NoError(t, memory.Close())
			require.Empty(t, rig.Compare("the room", want, bot.Entries(t, home)))
			require.Equal(t, matrix.Pending{}, memory.Pending())

			log, kept := rig.KeepLog()
			memory = rig.Open(t, conf, matrix.WithLogger(log))
			back := leave()
			for i := range 10 {
				set(20 + i)
			}
			if way == "refused" {
				rig.Delivers(t, func() bool { return len(kept.Lines("level=warning")) > 0 }, "it has noticed")
			}
			rig.Within(t, bound, "Close", func() { require.NoError(t, memory.Close()) })
			require.Equal(t, 10, memory.Pending().Changes)
			require.ErrorIs(t, memory.Set("late", []byte(`1`)), matrix.ErrClosed)
			rig.Within(t, slack+conf.Timeout, "Open and Close", func() {
				memory = rig.Open(t, conf)
				require.Equal(t, 10, memory.Pending().Changes)
				require.Empty(t, rig.Compare("a memory that starts without a connection", want, rig.Entries(t, memory)))
				require.NoError(t, memory.Close())
			})
			back()
			memory = rig.Open(t, conf)
			rig.Flush(t, memory, rig.Delivering)
			require.Empty(t, rig.Compare("the room", want, bot.Entries(t, home)))
		})
	}
}

// What the homeserver says against the credentials at a start is in the log, with what to do.
// The bot remembers meanwhile, and a start with others delivers it.
func TestCredentialsRefusedWithAJournal(t *testing.T) {
	bot := rig.Register(t)
	home := bot.NewRoom(t)
	start := bot.Config(home)
	start.Journal = rig.Journal(t)
	memory := rig.Open(t, start)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	rig.Flush(t, memory, rig.Delivering)
	require.NoError(t, memory.Close())
	dead := rig.Shared(t).Login(t, bot.UserID.Localpart())
	_, err := dead.Logout(t.Context())
	require.NoError(t, err)

	want := map[string]string{"tea": `"green"`}
	for name, test := range map[string]struct {
		change func(*matrix.Config)
		says   []string
	}{
		"a dead token": {
			func(c *matrix.Config) { c.AccessToken = dead.AccessToken },
			[]string{"M_UNKNOWN_TOKEN", "make a new one, or use a password"},
		},
		"a wrong password": {
			func(c *matrix.Config) {
				c.AccessToken, c.UserID, c.Password = "", bot.UserID.String(), "not the secret"
			},
			[]string{"M_FORBIDDEN", "login as " + bot.UserID.String()},
		},
	} {
		t.Run(name, func(t *testing.T) {
			conf := start
			test.change(&conf)
			log, kept := rig.KeepLog()
			memory := rig.Open(t, conf, matrix.WithLogger(log))
			require.Equal(t, want, rig.Entries(t, memory))
			require.NoError(t, memory.Set(name, []byte(`1`)))
			want[name] = `1`
			rig.Warned(t, kept, test.says...)
			require.Equal(t, 1, memory.Pending().Changes)
			require.NoError(t, memory.Close())

			memory = rig.Open(t, start)
			rig.Flush(t, memory, rig.Delivering)
			require.Equal(t, want, bot.Entries(t, home))
			require.NoError(t, memory.Close())
		})
	}
}

// The first start of a journal needs the homeserver, as nothing is known yet. A start that
// failed is in the way of none.
func TestFirstStartNeedsTheHomeserver(t *testing.T) {
	for way, absence := range absences {
		t.Run(way, func(t *testing.T) {
			rig.NoLeaks(t)
			on, url, leave := absence(t)
			bot := on.NewAccount(t)
			home := bot.NewRoom(t)
			conf := bot.Config(home)
			conf.Homeserver, conf.Journal, conf.Timeout = url, rig.Journal(t), 4*time.Second
			back := leave()
			for range 2 { // whatever the first leaves of the file
				var failure *matrix.Error
				require.ErrorAs(t, rig.Refused(t, conf), &failure)
				require.Equal(t, "open", failure.Op)
			}
			back()
			conf.Timeout = time.Minute
			memory := rig.Open(t, conf)
			require.NoError(t, memory.Set("tea", []byte(`1`)))
			rig.Flush(t, memory, rig.Delivering)
			require.Equal(t, map[string]string{"tea": `1`}, bot.Entries(t, home))
			require.FileExists(t, conf.Journal)
		})
	}
}

// An Open that fails delivers nothing, and does not wait for that.
func TestOpenFailsWithChangesPending(t *testing.T) {
	t.Parallel()
	front, bot := rig.Proxy(t), rig.Register(t)
	conf := rig.Journalled(t, front, bot, bot.NewRoom(t), matrix.OneStateKey)
	memory := rig.Open(t, conf)
	rig.Flush(t, memory, rig.Delivering)
	back := rig.Offline(front)
	require.NoError(t, memory.Set("tea", []byte(`1`)))
	require.NoError(t, memory.Close())
	back()
	conf.Rooms = map[string]string{"main": rig.Register(t).NewRoom(t).String()} // which the bot may not join
	conf.Timeout = time.Minute
	rig.Within(t, slack, "Open", func() { require.ErrorIs(t, rig.Refused(t, conf), matrix.ErrForbidden) })
	require.Equal(t, 1, memory.Pending().Changes)
}
