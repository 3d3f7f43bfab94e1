package test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// neighbours returns a bot's account, and a program as opsdroid of somebody else's in a new
// room of both.
func neighbours(t testing.TB, layout matrix.StateKey) (bot rig.Account, others rig.Opsdroid) {
	t.Helper()
	bot, owner := rig.Register(t), rig.Register(t)
	return bot, rig.Opsdroid{Account: owner, Room: owner.NewRoom(t, bot, rig.Writable), Layout: layout}
}

// besideOthers opens a memory with a journal, by way of a proxy, in a room that it shares with a
// program as opsdroid of somebody else's.
func besideOthers(t testing.TB, layout matrix.StateKey) (front *homeserver.Proxy, others rig.Opsdroid, conf matrix.Config, memory *matrix.Memory) {
	t.Helper()
	front = rig.Proxy(t)
	bot, others := neighbours(t, layout)
	conf = rig.Journalled(t, front, bot, others.Room, layout)
	return front, others, conf, rig.Open(t, conf)
}

// Somebody changes keys that have a change pending, which the bot has not heard of. Its Set
// wins, as it would have without a journal, as it was made later. Its Delete, which was about
// another value, does not. Either is in the log, with room and key.
func TestPendingChangesMeetOthers(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front, others, conf, memory := besideOthers(t, layout)
			for _, key := range []string{"tea", "milk", "sugar"} {
				require.NoError(t, memory.Set(key, []byte(`"secret old"`)))
			}
			rig.Flush(t, memory, rig.Delivering)
			require.NoError(t, memory.Close())

			online := rig.Offline(front)
			log, kept := rig.KeepLog()
			memory = rig.Open(t, conf, matrix.WithLogger(log))
			require.NoError(t, memory.Set("tea", []byte(`"secret ours"`)))
			for _, key := range []string{"milk", "sugar"} {
				was, err := memory.Delete(key)
				require.NoError(t, err)
				require.True(t, was)
				rig.Has(t, memory, key, "")
			}
			for _, key := range []string{"tea", "milk"} {
				require.NoError(t, others.Put(t.Context(), key, `"secret theirs"`))
			}
			online()
			rig.Flush(t, memory, rig.Delivering)
			want := map[string]string{"tea": `"secret ours"`, "milk": `"secret theirs"`}
			require.Equal(t, want, others.Entries(t, others.Room))
			require.Equal(t, want, rig.Entries(t, memory))
			rig.Warned(t, kept, others.Room.String(), "tea")
			rig.Warned(t, kept, others.Room.String(), "milk")
			for _, line := range kept.Lines("level=warning") {
				require.NotContains(t, line, "sugar", "nobody had changed that")
			}
		})
	}
}

// A scribe is a bot with a journal that sets keys, in a process of its own, says so, and
// waits to be killed.
type scribe struct {
	Conf bare
	Keys []string
}

func init() { rig.Victim(scribe.run) }

const ours, theirs = `"ours"`, `"theirs"`

func (s scribe) run() error {
	memory := matrix.New(matrix.Config(s.Conf), matrix.WithLogger(rig.Silence()))
	if err := memory.Open(context.Background()); err != nil {
		return err
	}
	for _, key := range s.Keys {
		if err := memory.Set(key, []byte(ours)); err != nil {
			return err
		}
	}
	fmt.Println(acknowledged)
	_, err := io.ReadAll(os.Stdin) // until the test ends
	return err
}

// A bot is killed after it has sent a change, before it has the answer. Whether the change
// had arrived or not, the next start leaves it with the value that it should have: what
// somebody who had seen it has changed since does not come back.
func TestAnswerLostWithTheProcess(t *testing.T) {
	// On a server of its own: Dendrite does not always get over a client that dies in the
	// midst of a request.
	own := rig.Own(t)
	bot, owner := own.NewAccount(t), own.NewAccount(t)
	for _, name := range []string{"single", "perkey"} {
		layout := rig.Layouts[name]
		for what, test := range map[string]struct {
			pause func(chan<- struct{}, <-chan struct{}) homeserver.Action
			then  func(context.Context, rig.Opsdroid) error
			tea   string
		}{
			"arrived":           {homeserver.PauseAfter, nil, ours},
			"did not arrive":    {homeserver.PauseBefore, nil, ours},
			"changed since":     {homeserver.PauseAfter, func(ctx context.Context, o rig.Opsdroid) error { return o.Put(ctx, "tea", theirs) }, theirs},
			"deleted since":     {homeserver.PauseAfter, func(ctx context.Context, o rig.Opsdroid) error { return o.Delete(ctx, "tea") }, rig.Absent},
			"and set as it was": {homeserver.PauseAfter, func(ctx context.Context, o rig.Opsdroid) error { return o.Put(ctx, "tea", `"old"`) }, `"old"`},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				front := own.Proxy(t)
				others := rig.Opsdroid{Account: owner, Room: owner.NewRoom(t, bot, rig.Writable), Layout: layout}
				conf := rig.Journalled(t, front, bot, others.Room, layout)
				memory := rig.Open(t, conf)
				require.NoError(t, memory.Set("tea", []byte(`"old"`)))
				rig.Flush(t, memory, rig.Delivering)
				require.NoError(t, memory.Close())

				reached, never := make(chan struct{}), make(chan struct{})
				front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: test.pause(reached, never)})
				line, kill := rig.StartVictim(t, scribe{bare(conf), []string{"tea", "coffee"}})
				require.Equal(t, acknowledged, <-line, "before the homeserver has answered")
				select {
				case <-reached:
				case <-time.After(rig.Delivering):
					t.Fatal("nothing is delivered")
				}
				kill()
				front.Hold()()
				if test.then != nil {
					require.NoError(t, test.then(t.Context(), others))
				}

				memory = rig.Open(t, conf)
				rig.Flush(t, memory, rig.Delivering)
				want := map[string]string{"coffee": ours}
				if test.tea != rig.Absent {
					want["tea"] = test.tea
				}
				require.Equal(t, want, others.Entries(t, others.Room))
				require.Equal(t, want, rig.Entries(t, memory))
				memory = rig.Reopened(t, memory, conf) // nor later
				rig.Flush(t, memory, rig.Delivering)
				require.Equal(t, want, others.Entries(t, others.Room))
			})
		}
	}
}

// A journal is restored from yesterday's copy, in which changes are pending that were
// delivered since. None of them is delivered once more, and the log says what to do. What the
// bot remembers from now on is delivered.
func TestJournalRestoredFromACopy(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front, others, conf, memory := besideOthers(t, layout)
			for _, key := range []string{"tea", "milk"} {
				require.NoError(t, memory.Set(key, []byte(`"secret first"`)))
			}
			rig.Flush(t, memory, rig.Delivering)
			require.NoError(t, memory.Close())
			online := rig.Offline(front)
			memory = rig.Open(t, conf)
			require.NoError(t, memory.Set("tea", []byte(`"secret yesterday"`)))
			was, err := memory.Delete("milk")
			require.NoError(t, err)
			require.True(t, was)
			require.NoError(t, memory.Close())
			yesterday, err := os.ReadFile(conf.Journal)
			require.NoError(t, err)

			online()
			memory = rig.Open(t, conf)
			rig.Flush(t, memory, rig.Delivering)
			require.Equal(t, map[string]string{"tea": `"secret yesterday"`}, others.Entries(t, others.Room))
			require.NoError(t, memory.Set("tea", []byte(`"secret today"`)))
			require.NoError(t, memory.Set("milk", []byte(`"secret today"`)))
			rig.Flush(t, memory, rig.Delivering)
			require.NoError(t, others.Put(t.Context(), "sugar", `1`))
			require.NoError(t, memory.Close())

			require.NoError(t, os.WriteFile(conf.Journal, yesterday, 0o600))
			log, kept := rig.KeepLog()
			memory = rig.Open(t, conf, matrix.WithLogger(log))
			require.NoError(t, memory.Set("coffee", []byte(`1`)))
			rig.Pending(t, memory, 2, 2)
			want := map[string]string{"tea": `"secret today"`, "milk": `"secret today"`, "sugar": `1`, "coffee": `1`}
			require.Equal(t, want, others.Entries(t, others.Room))
			rig.Warned(t, kept, conf.Journal, "copy")

			memory = rig.Reopened(t, memory, conf)
			require.NoError(t, memory.Set("coffee", []byte(`2`)))
			rig.Pending(t, memory, 2, 2)
			want["coffee"] = `2`
			require.Equal(t, want, others.Entries(t, others.Room), "they are not tried at another start either")
		})
	}
}

// A copy of a journal is used for a while: off line, in two lives, and then for a life in which it is
// found out and delivers nothing. What was acknowledged in these lives is nobody else's, and is
// delivered; what stood in the copy before is not, and a copy that is made of it later brings nothing back.
func TestLivesOfACopy(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front, others, conf, memory := besideOthers(t, layout)
			for _, key := range []string{"tea", "milk", "rum"} {
				require.NoError(t, memory.Set(key, []byte(`"first"`)))
			}
			rig.Flush(t, memory, rig.Delivering)
			require.NoError(t, memory.Close())
			online := rig.Offline(front)
			memory = rig.Open(t, conf)
			for _, key := range []string{"tea", "milk", "rum"} {
				require.NoError(t, memory.Set(key, []byte(`"copied"`)))
			}
			memory = rig.Reopened(t, memory, conf) // in two starts of the original
			require.NoError(t, memory.Set("gin", []byte(`"copied"`)))
			require.NoError(t, memory.Close())
			copied, err := os.ReadFile(conf.Journal)
			require.NoError(t, err)
			online()
			memory = rig.Open(t, conf)
			rig.Flush(t, memory, rig.Delivering)
			for _, key := range []string{"tea", "milk", "rum", "gin"} {
				require.NoError(t, memory.Set(key, []byte(`"original"`)))
			}
			rig.Flush(t, memory, rig.Delivering)
			require.NoError(t, memory.Close())

			log, kept := rig.KeepLog()
			conf.Journal = rig.Journal(t)
			require.NoError(t, os.WriteFile(conf.Journal, copied, 0o600))
			online = rig.Offline(front)
			memory = rig.Open(t, conf, matrix.WithLogger(log))
			require.NoError(t, memory.Set("coffee", []byte(`1`)))
			require.NoError(t, memory.Set("milk", []byte(`1`)))
			memory = rig.Reopened(t, memory, conf, matrix.WithLogger(log))
			require.NoError(t, memory.Set("sugar", []byte(`2`)))
			require.NoError(t, memory.Close())
			online()
			writable := front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Page(502)})
			memory = rig.Open(t, conf, matrix.WithLogger(log))
			require.NoError(t, memory.Set("rum", []byte(`3`)))
			rig.Warned(t, kept, conf.Journal, "copy")
			rig.Has(t, memory, "coffee", `1`)
			rig.Has(t, memory, "rum", `3`)
			eventually(t, func() bool { value, _, err := memory.Get("tea"); return err == nil && string(value) == `"original"` }, "the original's counts")
			require.NoError(t, memory.Close())
			writable()

			later, err := os.ReadFile(conf.Journal)
			require.NoError(t, err)
			want := map[string]string{"tea": `"original"`, "gin": `"original"`, "milk": `1`, "coffee": `1`, "sugar": `2`, "rum": `3`}
			memory = rig.Open(t, conf, matrix.WithLogger(log))
			rig.Pending(t, memory, 2, 2)
			require.Equal(t, want, others.Entries(t, others.Room))
			require.Equal(t, want, rig.Entries(t, memory))

			require.NoError(t, memory.Set("coffee", []byte(`4`)))
			want["coffee"] = `4`
			rig.Pending(t, memory, 2, 2)
			require.NoError(t, memory.Close())
			require.NoError(t, os.WriteFile(conf.Journal, later, 0o600))
			memory = rig.Open(t, conf, matrix.WithLogger(log))
			rig.Delivers(t, func() bool { now := memory.Pending(); return now.Changes == now.Refused }, "it is found out once more")
			require.Equal(t, want, others.Entries(t, others.Room))
			eventually(t, func() bool { return maps.Equal(want, rig.Entries(t, memory)) }, "what is in the room counts")
		})
	}
}

// A journal is one bot's, and one process's at a time: a second one says so, and harms nothing.
func TestJournalInUse(t *testing.T) {
	bot, others := neighbours(t, matrix.OneStateKey)
	conf := rig.Journalled(t, rig.Proxy(t), bot, others.Room, matrix.OneStateKey)
	memory := rig.Open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`1`)))
	rig.Within(t, slack, "Open of a second", func() {
		err := rig.Refused(t, conf)
		require.ErrorContains(t, err, conf.Journal)
		require.ErrorContains(t, err, "in use")
	})
	require.NoError(t, memory.Set("tea", []byte(`2`)))
	rig.Flush(t, memory, rig.Delivering)
	memory = rig.Reopened(t, memory, conf)
	rig.Has(t, memory, "tea", `2`)
	info, err := os.Stat(conf.Journal)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

// A journal of another account is refused, and stays as it is.
func TestJournalOfAnotherAccount(t *testing.T) {
	bot, others := neighbours(t, matrix.OneStateKey)
	front := rig.Proxy(t)
	conf := rig.Journalled(t, front, bot, others.Room, matrix.OneStateKey)
	memory := rig.Open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`1`)))
	rig.Flush(t, memory, rig.Delivering)
	require.NoError(t, memory.Close())

	for name, mxid := range map[string]string{"by mxid": others.UserID.String(), "by the token": ""} {
		foreign := conf
		foreign.UserID, foreign.AccessToken = mxid, others.AccessToken
		err := rig.Refused(t, foreign)
		for _, part := range []string{conf.Journal, bot.UserID.String(), others.UserID.String()} {
			require.ErrorContains(t, err, part, name)
		}
	}
	// Off line nobody can be asked whose a new token is.
	online := rig.Offline(front)
	renewed := conf
	renewed.AccessToken = rig.Shared(t).Login(t, bot.UserID.Localpart()).AccessToken
	rig.Within(t, slack, "Open", func() { memory = rig.Open(t, renewed) })
	rig.Has(t, memory, "tea", `1`)
	require.NoError(t, memory.Close())
	online()

	memory = rig.Open(t, conf)
	rig.Has(t, memory, "tea", `1`)
	require.NoError(t, memory.Set("tea", []byte(`2`)))
	rig.Flush(t, memory, rig.Delivering)
}

// What is no journal, or no longer a whole one, is an error that names the file, and is
// never written over.
func TestFileThatIsNoJournal(t *testing.T) {
	bot := rig.Register(t)
	home := bot.NewRoom(t)
	conf := rig.Journalled(t, rig.Proxy(t), bot, home, matrix.OneStateKey)
	memory := rig.Open(t, conf)
	for k := range 50 {
		require.NoError(t, memory.Set(fmt.Sprint("key ", k), fmt.Appendf(nil, `"%0500d"`, k)))
	}
	rig.Flush(t, memory, rig.Delivering)
	require.NoError(t, memory.Close())
	whole, err := os.ReadFile(conf.Journal)
	require.NoError(t, err)
	used := bytes.TrimRight(whole, "\x00") // behind that is the room that bbolt took in advance

	for name, content := range map[string][]byte{
		"text":              []byte("tea is green\n"),
		"another database":  append([]byte("SQLite format 3\x00"), make([]byte, 8192)...),
		"nothing but zeros": make([]byte, 16384),
		"half of a journal": used[:len(used)/2],
		"a piece of a page": whole[:100],
	} {
		t.Run(name, func(t *testing.T) {
			conf := conf
			conf.Journal = rig.Journal(t)
			require.NoError(t, os.WriteFile(conf.Journal, content, 0o600))
			require.ErrorContains(t, rig.Refused(t, conf), conf.Journal)
			now, err := os.ReadFile(conf.Journal)
			require.NoError(t, err)
			require.Equal(t, content, now)
		})
	}
	t.Run("a folder", func(t *testing.T) {
		conf := conf
		conf.Journal = t.TempDir()
		require.ErrorContains(t, rig.Refused(t, conf), conf.Journal)
	})
	t.Run("no folder", func(t *testing.T) {
		conf := conf
		conf.Journal = filepath.Join(t.TempDir(), "nowhere", "memory.db")
		require.ErrorContains(t, rig.Refused(t, conf), conf.Journal)
		require.NoDirExists(t, filepath.Dir(conf.Journal))
	})
	memory = rig.Open(t, conf)
	require.Len(t, rig.Entries(t, memory), 50)
}
