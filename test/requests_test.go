package test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// counted opens a memory, and a bot's Store on it, behind a proxy that counts
// the memory's requests. The sync loop's don't count: it always has one open.
func counted(t *testing.T, conf matrix.Config) (memory *matrix.Memory, store *joe.Storage, requests func() []string) {
	t.Helper()
	front := rig.Proxy(t)
	conf.Homeserver = front.URL()
	memory = rig.Open(t, conf)
	store = joe.NewStorage(zap.NewNop())
	store.SetMemory(memory)
	front.Reset()
	return memory, store, func() (made []string) {
		for _, request := range front.Requests() {
			if !homeserver.Seen(rig.OfSync)(request) {
				made = append(made, fmt.Sprintf("%s %s: %d", request.Method, request.Path, request.Status))
			}
		}
		return made
	}
}

// A write is one request, and the request is the write: nothing is read first,
// and nothing afterwards.
func TestAWriteIsOneRequest(t *testing.T) {
	for name, stateKey := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			bot := rig.Register(t)
			conf := bot.Config(bot.NewRoom(t))
			conf.SingleStateKey = stateKey
			_, store, requests := counted(t, conf)

			for i, write := range []func() error{
				func() error { return store.Set("tea", "green") },
				func() error { return store.Set("tea", "black") },
				func() error { return store.Set("milk", map[string]any{"fat": 3, "cold": true}) },
				func() error { _, err := store.Delete("tea"); return err },
				func() error { return store.Set("tea", "green") },
			} {
				require.NoError(t, write())
				made := requests()
				require.Len(t, made, i+1, "after write %d", i)
				require.Regexp(t, `^PUT /_matrix/client/v3/rooms/[^/]+/state/dev\.opsdroid\.database/\S*: 200$`, made[i])
			}
		})
	}
}

// Writing what is there, and deleting what is not, writes nothing: it only asks the
// homeserver once whether that is still so.
func TestWritingWhatIsThereIsOneQuestion(t *testing.T) {
	for name, stateKey := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			bot := rig.Register(t)
			conf := bot.Config(bot.NewRoom(t))
			conf.SingleStateKey = stateKey
			before := rig.Open(t, conf)
			require.NoError(t, before.Set("json", []byte(`{"a":1,"b":[true,"x"]}`)))
			require.NoError(t, before.Set("bytes", []byte("\x00\xff")))

			memory, store, requests := counted(t, conf)
			for i, write := range []func() error{
				func() error { return memory.Set("json", []byte(`{"a":1,"b":[true,"x"]}`)) },
				func() error { return memory.Set("json", []byte(` { "b": [ true, "x" ], "a": 1 } `)) },
				func() error { return store.Set("json", map[string]any{"b": []any{true, "x"}, "a": 1}) },
				func() error { return memory.InRoom("main").Set("json", map[string]any{"a": 1, "b": []any{true, "x"}}) },
				func() error { return memory.Set("bytes", []byte("\x00\xff")) },
				func() error {
					existed, err := memory.Delete("missing")
					require.False(t, existed)
					return err
				},
			} {
				require.NoError(t, write())
				made := requests()
				require.Len(t, made, i+1, "after write %d", i)
				require.Regexp(t, `^GET /_matrix/client/v3/rooms/[^/]+/state/dev\.opsdroid\.database(/\S*)?: (200|404)$`, made[i])
			}
		})
	}
}

// Writers that meet share requests: 200 at once take at most 12. Those that fail,
// fail alone.
func TestConcurrentWritesShareRequests(t *testing.T) {
	const writers, most = 200, 12
	bot := rig.Register(t)
	room := bot.NewRoom(t)
	memory, _, requests := counted(t, bot.Config(room))

	value := func(i int) string { return fmt.Sprintf("%0100d", i) }
	tooLarge := func(i int) bool { return i%20 == 7 }
	unencodable := func(i int) bool { return i%20 == 13 }
	errs := make([]error, writers)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range writers {
		handle := memory.InRoom("main")
		all.Go(func() {
			<-start
			key := fmt.Sprint("key", i)
			switch {
			case tooLarge(i):
				errs[i] = handle.Set(key, strings.Repeat("x", 1<<16))
			case unencodable(i):
				errs[i] = handle.Set(key, make(chan int))
			default:
				errs[i] = handle.Set(key, value(i))
			}
		})
	}
	close(start)
	all.Wait()
	made := requests()
	t.Logf("%d writes took %d requests", writers, len(made))
	require.LessOrEqual(t, len(made), most, made)
	for _, request := range made {
		require.Regexp(t, `^PUT /_matrix/client/v3/rooms/[^/]+/state/`, request)
	}

	// What was acknowledged is there, for this memory and for one that starts now.
	for _, reader := range []*matrix.Memory{memory, rig.Open(t, bot.Config(room))} {
		stored := 0
		for i := range writers {
			key := fmt.Sprint("key", i)
			var text string
			ok, err := reader.InRoom("main").Get(key, &text)
			require.NoError(t, err)
			switch {
			case tooLarge(i):
				require.ErrorIs(t, errs[i], matrix.ErrTooLarge)
				require.ErrorContains(t, errs[i], fmt.Sprintf("%q", key))
				require.False(t, ok)
			case unencodable(i):
				require.ErrorContains(t, errs[i], "encoding the value")
				require.ErrorContains(t, errs[i], fmt.Sprintf("%q", key))
				require.False(t, ok)
			default:
				require.NoError(t, errs[i])
				require.True(t, ok, key)
				require.Equal(t, value(i), text)
				stored++
			}
		}
		keys, err := reader.Keys()
		require.NoError(t, err)
		require.Len(t, keys, stored)
	}
}
