package test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// Close waits for the writes that were accepted, and takes no new ones.
func TestCloseWhileWriting(t *testing.T) {
	rig.NoLeaks(t)
	r := behind(t, rig.Proxy(t), rig.Register(t), 15*time.Second, matrix.OneStateKey)
	release, first := rig.Paused(t, r.Front, homeserver.PauseBefore, func() error { return r.Set("one", []byte(`1`)) })
	accepted := make(chan error, 1)
	go func() { accepted <- r.Set("two", []byte(`2`)) }()

	closed := make(chan error, 1)
	go func() { closed <- r.Close() }()
	eventually(t, func() bool { _, _, err := r.Get("one"); return errors.Is(err, matrix.ErrClosed) }, "Close has begun")
	usedAfterClose(t, r.Memory)
	require.Empty(t, closed, "Close waits")
	release()
	require.NoError(t, <-first)
	second := <-accepted // a write that came too late is refused, and else it is stored
	require.NoError(t, <-closed)
	require.NoError(t, r.Close(), "again")
	usedAfterClose(t, r.Memory)

	want := `{"one":1,"two":2}`
	if second != nil {
		require.ErrorIs(t, second, matrix.ErrClosed)
		want = `{"one":1}`
	}
	require.JSONEq(t, want, r.Standing(t, r.Room)[""])
}

// usedAfterClose checks that every operation on a closed memory says that it is.
func usedAfterClose(t testing.TB, memory *matrix.Memory) {
	t.Helper()
	room := memory.InRoom("main")
	for op, use := range map[string]func() error{
		"Set":             func() error { return memory.Set("key", nil) },
		"Get":             func() error { _, _, err := memory.Get("key"); return err },
		"Delete":          func() error { _, err := memory.Delete("key"); return err },
		"Keys":            func() error { _, err := memory.Keys(); return err },
		"InRoom.Set":      func() error { return room.Set("key", 1) },
		"InRoom.Get":      func() error { _, err := room.Get("key", nil); return err },
		"InRoom.Delete":   func() error { _, err := room.Delete("key"); return err },
		"InRoom.Keys":     func() error { _, err := room.Keys(); return err },
		"InEventRoom":     func() error { return memory.InEventRoom(func(joe.Message) error { return nil })(joe.Message{}) },
		"Set permissions": func() error { return memory.Set("joe.permissions.x", nil) },
	} {
		err := use()
		require.ErrorIs(t, err, matrix.ErrClosed, op)
		var failure *matrix.Error
		require.ErrorAs(t, err, &failure, op)
	}
}

// A write that was accepted before Close, and has no answer by its own deadline,
// is told so.
func TestCloseGivesUp(t *testing.T) {
	rig.NoLeaks(t)
	r := behind(t, rig.Proxy(t), rig.Register(t), 6*time.Second, matrix.OneStateKey)
	r.Front.Inject(homeserver.Fault{Do: homeserver.BlackHole()})
	result := make(chan error, 1)
	go func() { result <- r.Set("tea", []byte(`"secret"`)) }()
	eventually(t, func() bool { return r.Writes() > 0 }, "the write")
	rig.Within(t, 2*r.Timeout+slack, "Close", func() { require.NoError(t, r.Close()) })
	err := <-result
	r.Failed(t, err, "set", "tea")
	require.ErrorIs(t, err, matrix.ErrUnknownOutcome)
}

// Each Close waits as the first one does.
func TestSecondCloseWaits(t *testing.T) {
	rig.NoLeaks(t)
	r := behind(t, rig.Proxy(t), rig.Register(t), 15*time.Second, matrix.OneStateKey)
	release, written := rig.Paused(t, r.Front, homeserver.PauseBefore, func() error { return r.Set("tea", []byte(`"green"`)) })
	var closing sync.WaitGroup
	var closed atomic.Int32
	for range 3 {
		closing.Go(func() {
			_ = r.Close()
			closed.Add(1)
			if value := r.Standing(t, r.Room)[""]; !strings.Contains(value, "green") {
				t.Errorf("Close has returned before the write that was accepted: %s", value)
			}
		})
	}
	eventually(t, func() bool { _, _, err := r.Get("tea"); return errors.Is(err, matrix.ErrClosed) }, "Close has begun")
	require.Zero(t, closed.Load())
	release()
	require.NoError(t, <-written)
	closing.Wait()
}

// inHandler opens a memory whose handler for messages does something, once, on the
// goroutine that syncs, and says something to it.
func inHandler(t *testing.T, timeout time.Duration, do func(*matrix.Memory)) (*matrix.Memory, *rig.Buffer) {
	t.Helper()
	bot := rig.Register(t)
	room := bot.NewRoom(t)
	conf := bot.Config(room)
	conf.AccessToken, conf.UserID, conf.Password = "", bot.UserID.String(), bot.Password
	conf.Timeout = timeout
	log, kept := rig.KeepLog()
	memory := matrix.New(conf, matrix.WithLogger(log))
	syncer := memory.Client().Syncer.(*mautrix.DefaultSyncer)
	syncer.FilterJSON.Room.Timeline.Types = append(syncer.FilterJSON.Room.Timeline.Types, event.EventMessage)
	var once sync.Once
	syncer.OnEventType(event.EventMessage, func(context.Context, *event.Event) { once.Do(func() { do(memory) }) })
	require.NoError(t, memory.Open(t.Context()))
	_, err := bot.SendText(t.Context(), room, "!quit")
	require.NoError(t, err)
	return memory, kept
}

// A handler that runs on the goroutine that syncs may close the memory, which neither waits
// for that goroutine nor has it wait long for others.
func TestCloseInASyncHandler(t *testing.T) {
	rig.NoLeaks(t)
	entered, closed := make(chan struct{}), make(chan error, 1)
	memory, _ := inHandler(t, time.Minute, func(memory *matrix.Memory) {
		close(entered)
		_ = memory.Close()
		closed <- memory.Close()
	})
	<-entered
	rig.Within(t, slack, "Close in the handler", func() { require.NoError(t, <-closed) })
	rig.Within(t, slack, "Close elsewhere", func() { require.NoError(t, memory.Close()) })
	usedAfterClose(t, memory)
}

// While Close waits for a handler, the handler may close as well.
func TestCloseInASyncHandlerWhileClosing(t *testing.T) {
	rig.NoLeaks(t)
	entered, closed := make(chan struct{}), make(chan error, 1)
	memory, kept := inHandler(t, 15*time.Second, func(memory *matrix.Memory) {
		close(entered)
		for _, _, err := memory.Get("tea"); !errors.Is(err, matrix.ErrClosed); _, _, err = memory.Get("tea") {
		}
		closed <- memory.Close()
	})
	<-entered
	rig.Within(t, slack, "Close elsewhere", func() { require.NoError(t, memory.Close()) })
	require.Len(t, closed, 1, "Close waits for the handler")
	require.NoError(t, <-closed)
	require.NotContains(t, kept.String(), "level=warning")
}

// A handler that writes all the time ends when the memory is closed.
func TestSyncHandlerWritesWhileClosing(t *testing.T) {
	rig.NoLeaks(t)
	entered, ended := make(chan struct{}), make(chan error, 1)
	memory, _ := inHandler(t, 15*time.Second, func(memory *matrix.Memory) {
		close(entered)
		var err error
		for i := 0; err == nil; i++ {
			err = memory.Set("tea", []byte{'0' + byte(i%10)})
		}
		ended <- err
	})
	<-entered
	rig.Within(t, slack, "Close", func() { require.NoError(t, memory.Close()) })
	require.ErrorIs(t, <-ended, matrix.ErrClosed)
}

// A handler that does not return keeps Close only for a while.
func TestCloseWithASyncHandlerThatHangs(t *testing.T) {
	rig.NoLeaks(t)
	entered, release := make(chan struct{}), make(chan struct{})
	memory, kept := inHandler(t, 5*time.Second, func(*matrix.Memory) {
		close(entered)
		<-release
	})
	<-entered
	rig.Within(t, 5*time.Second+slack, "Close", func() { require.NoError(t, memory.Close()) })
	require.Contains(t, kept.String(), "A sync handler has not returned")
	close(release)
}

// What was acknowledged stands when Close has returned, though a program that had not
// heard of it has written over it.
func TestCloseLeavesWhatWasAcknowledged(t *testing.T) {
	r := rig.Crowd(t, rig.Shared(t), 1, matrix.OneStateKey)[0]
	other := rig.NewOpsdroid(t, rig.Shared(t), r, matrix.OneStateKey)
	want := map[string]string{"start": `1`}
	require.NoError(t, r.Set("start", []byte(`1`)))
	for i := range 5 {
		r.InStep(t)
		read, err := other.Read(t.Context(), "")
		require.NoError(t, err)
		ours, theirs := fmt.Sprint("ours ", i), fmt.Sprint("theirs ", i)
		require.NoError(t, r.Set(ours, []byte(`1`)))
		read[theirs] = []byte(`1`)
		require.NoError(t, other.Write(t.Context(), "", read))
		require.NoError(t, r.Memory.Close())
		want[ours], want[theirs] = `1`, `1`
		require.Empty(t, rig.Compare("the room", want, r.Account.Entries(t, r.Room)))
		r = rig.Behind(t, rig.Proxy(t), r.Account, r.Config(r.Room))
	}
}

// A memory closes right after a write that has overtaken another's, or its process dies.
// What it has taken away so is back at the latest when a memory opens that knows nothing.
func TestEndsRightAfterARacedWrite(t *testing.T) {
	for name, ended := range map[string]struct{ dies, opsdroid bool }{
		"closes, another memory's":  {},
		"dies, another memory's":    {dies: true},
		"closes, another program's": {opsdroid: true},
		"dies, another program's":   {dies: true, opsdroid: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			owner, confs := rig.Newcomers(t, rig.Shared(t), 2, matrix.OneStateKey)
			conf := confs[0]
			if ended.dies {
				conf.Timeout = 12 * time.Second // Close waits for that
			}
			r := rig.Behind(t, rig.Proxy(t), owner, conf)
			require.NoError(t, r.Set("start", []byte(`1`)))
			r.InStep(t)
			write := func() { // as a memory that has closed
				other := rig.Open(t, confs[1])
				require.NoError(t, other.Set("theirs", []byte(`1`)))
				require.NoError(t, other.Close())
			}
			if ended.opsdroid {
				other := rig.NewOpsdroid(t, rig.Shared(t), r, matrix.OneStateKey)
				write = func() { require.NoError(t, other.Put(t.Context(), "theirs", `1`)) }
			}
			if ended.dies {
				r.LoseSync(t) // it will not hear of it
			}
			require.NoError(t, rig.Overtaken(t, r, func() error { return r.Set("ours", []byte(`1`)) }, write))
			if ended.dies {
				r.Front.Inject(homeserver.Fault{Do: homeserver.ResetBefore()}) // nor do anything any more
			}
			require.NoError(t, r.Close())
			want := map[string]string{"start": `1`, "ours": `1`, "theirs": `1`}
			rig.Settle(t, want, rig.Lasting, rig.Behind(t, rig.Proxy(t), owner, confs[0]))
		})
	}
}

// That Close ends what the memory does is nothing to warn of.
func TestCloseWarnsOfNothing(t *testing.T) {
	t.Parallel()
	bot := rig.Register(t)
	log, kept := rig.KeepLog()
	r := behind(t, rig.Proxy(t), bot, 15*time.Second, matrix.OneStateKey, matrix.WithLogger(log))
	require.NoError(t, r.Set("start", []byte(`1`)))
	r.InStep(t)
	restore := r.Gap(t, func() {}) // after which the state is looked at
	reads := func(q *http.Request) bool { return q.Method == http.MethodGet && !rig.FollowUp(q) }
	r.Front.Inject(homeserver.Fault{Match: reads, Do: homeserver.BlackHole()})
	restore()
	before := kept.String()
	require.NoError(t, r.Close())
	require.NotContains(t, strings.TrimPrefix(kept.String(), before), "level=warning")
}

// A memory with a journal leaves nothing running and its file free, whatever it does when it is
// closed, and however often.
func TestCloseWithAJournal(t *testing.T) {
	type closing struct {
		front  *homeserver.Proxy
		conf   matrix.Config
		memory *matrix.Memory
		online func() // lets requests come through again
	}
	for name, test := range map[string]struct {
		begin   func(testing.TB, *closing) (then func()) // once Close has begun
		pending int
	}{
		"nothing": {func(testing.TB, *closing) func() { return func() {} }, 0},
		"delivers": {func(t testing.TB, c *closing) func() {
			reached, release := make(chan struct{}), make(chan struct{})
			c.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: homeserver.PauseBefore(reached, release)})
			require.NoError(t, c.memory.Set("tea", []byte(`1`)))
			<-reached
			return func() { close(release) }
		}, 0},
		"connects": {func(t testing.TB, c *closing) func() {
			require.NoError(t, c.memory.Close())
			c.front.Reset()
			c.online = c.front.Inject(homeserver.Fault{Do: homeserver.BlackHole()})
			c.memory = rig.Open(t, c.conf)
			require.NoError(t, c.memory.Set("tea", []byte(`1`)))
			eventually(t, func() bool { return len(c.front.Requests()) > 0 }, "it connects")
			return func() {}
		}, 1},
		"waits to connect": {func(t testing.TB, c *closing) func() {
			require.NoError(t, c.memory.Close())
			c.online = rig.Offline(c.front)
			log, kept := rig.KeepLog()
			c.memory = rig.Open(t, c.conf, matrix.WithLogger(log))
			require.NoError(t, c.memory.Set("tea", []byte(`1`)))
			eventually(t, func() bool { return len(kept.Lines("can't be reached")) > 0 }, "it could not connect")
			return func() {}
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			rig.NoLeaks(t)
			bot := rig.Register(t)
			c := &closing{front: rig.Proxy(t), online: func() {}}
			c.conf = rig.Journalled(t, c.front, bot, bot.NewRoom(t), matrix.OneStateKey)
			c.memory = rig.Open(t, c.conf)
			then := test.begin(t, c)
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					if err := c.memory.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			eventually(t, func() bool { _, _, err := c.memory.Get("tea"); return errors.Is(err, matrix.ErrClosed) }, "Close has begun")
			then()
			rig.Within(t, slack, "Close", all.Wait)
			require.NoError(t, c.memory.Close())
			usedAfterClose(t, c.memory)
			require.ErrorIs(t, c.memory.Flush(t.Context()), matrix.ErrClosed)
			require.Equal(t, test.pending, c.memory.Pending().Changes)

			c.online()
			again := rig.Open(t, c.conf)
			rig.Flush(t, again, rig.Delivering)
			require.NoError(t, again.Close())
		})
	}
}

// A memory that was closed before it was opened, or can't have its journal as another has it,
// leaves nothing either.
func TestJournalOfAMemoryThatDoesNotOpen(t *testing.T) {
	rig.NoLeaks(t)
	bot := rig.Register(t)
	conf := rig.Journalled(t, rig.Proxy(t), bot, bot.NewRoom(t), matrix.OneStateKey)
	for range 2 { // the first start of a journal, and one that connects behind
		closed := matrix.New(conf, matrix.WithLogger(rig.Log(t)))
		require.NoError(t, closed.Close())
		require.ErrorIs(t, closed.Open(t.Context()), matrix.ErrClosed)

		memory := rig.Open(t, conf)
		require.ErrorContains(t, rig.Refused(t, conf), "in use")
		require.NoError(t, memory.Set("tea", []byte(`1`)))
		rig.Flush(t, memory, rig.Delivering)
		require.NoError(t, memory.Close())
	}
}

// What a memory answered when it was closed, it answers when it starts again without a
// connection, whatever told it.
func TestCloseKeepsWhatTheMemoryHeld(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front, others, conf, memory := besideOthers(t, layout)
			for _, value := range []string{`1`, `2`} {
				_, err := memory.Delete("tea")
				require.NoError(t, err)
				rig.Flush(t, memory, rig.Delivering)
				require.NoError(t, others.Put(t.Context(), "tea", value))
				eventually(t, func() bool { got, _, err := memory.Get("tea"); return err == nil && string(got) == value }, "what others write")
			}
			require.NoError(t, memory.Close())
			rig.Offline(front)
			memory = rig.Open(t, conf)
			rig.Has(t, memory, "tea", `2`)
		})
	}
}
