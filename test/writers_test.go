package test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// Two memories that write the same dictionary as fast as they can take each other's
// keys away all the time. In the end each key is as its writer set it last.
func TestTwoMemoriesWriteAtOnce(t *testing.T) {
	bot := rig.Register(t)
	room := bot.NewRoom(t)
	memories := map[string]*matrix.Memory{"a": rig.Open(t, bot.Config(room)), "b": rig.Open(t, bot.Config(room))}
	var mu sync.Mutex
	want := make(map[string]int)
	var writing sync.WaitGroup
	for name, memory := range memories {
		writing.Go(func() {
			for i := range 40 {
				key := fmt.Sprint(name, i%3)
				if err := memory.Set(key, fmt.Append(nil, i)); err != nil {
					t.Errorf("Set(%q): %v", key, err)
					return
				}
				mu.Lock()
				want[key] = i
				mu.Unlock()
			}
		})
	}
	writing.Wait()
	content, err := json.Marshal(want)
	require.NoError(t, err)
	eventually(t, func() bool { return bot.Standing(t, room)[""] == string(content) }, "all that was acknowledged: %s", content)
	for name, memory := range memories {
		for key, value := range want {
			eventually(t, func() bool {
				got, _, err := memory.Get(key)
				return err == nil && string(got) == fmt.Sprint(value)
			}, "what %s holds under %s", name, key)
		}
	}
}

// What is to be put back is put back also if the homeserver will have none of it at first.
func TestPutsBackWhatItTookAwayAfterAFailure(t *testing.T) {
	bot := rig.Register(t)
	r := behind(t, rig.Proxy(t), bot, 10*time.Second, matrix.OneStateKey)
	require.NoError(t, r.Set("start", []byte(`1`)))
	r.InStep(t)
	restore := r.LoseSync(t)
	bot.Put(t, r.Room, "", map[string]int{"start": 1, "theirs": 1})
	require.NoError(t, r.Set("ours", []byte(`1`)))
	require.JSONEq(t, `{"start":1,"ours":1}`, bot.Standing(t, r.Room)[""])
	r.Front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: homeserver.RateLimit(time.Minute)})
	restore()
	eventually(t, func() bool { return bot.Standing(t, r.Room)[""] == `{"ours":1,"start":1,"theirs":1}` }, "theirs is back")
}

// What a memory took away is put back while it goes on writing.
func TestPutsBackWhileItWrites(t *testing.T) {
	r := rig.Crowd(t, rig.Shared(t), 1, matrix.OneStateKey)[0]
	other := rig.NewOpsdroid(t, rig.Shared(t), r, matrix.OneStateKey)
	require.NoError(t, r.Set("start", []byte(`1`)))
	r.InStep(t)
	stop := make(chan struct{})
	var writing sync.WaitGroup
	steadily := func(key string) {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := r.Set(key, fmt.Append(nil, i)); err != nil {
				t.Errorf("Set(%q): %v", key, err)
				return
			}
		}
	}
	require.NoError(t, rig.Overtaken(t, r, func() error { return r.Set("ours", []byte(`1`)) }, func() {
		require.NoError(t, other.Put(t.Context(), "theirs", `1`))
		for _, key := range []string{"one", "two", "three", "four"} {
			writing.Go(func() { steadily(key) })
		}
	}))
	defer writing.Wait()
	defer close(stop)
	eventually(t, func() bool { return r.Account.Entries(t, r.Room)["theirs"] == `1` }, "theirs is back")
}

// Two bots that write one dictionary at the same time don't take away each
// other's keys.
func TestTwoBotsOneDictionary(t *testing.T) {
	bot := rig.Register(t)
	room := bot.NewRoom(t)
	one, two := rig.Open(t, bot.Config(room)), rig.Open(t, bot.Config(room))
	require.NoError(t, one.Set("start", []byte(`1`)))
	eventually(t, func() bool { _, ok, _ := two.Get("start"); return ok }, "the start")
	require.NoError(t, two.Set("start2", []byte(`1`)))
	eventually(t, func() bool { _, ok, _ := one.Get("start2"); return ok }, "the start")

	for i := range 3 {
		key := string(rune('a' + i))
		done := make(chan error, 2)
		go func() { done <- one.Set("one-"+key, []byte(`1`)) }()
		go func() { done <- two.Set("two-"+key, []byte(`2`)) }()
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		eventually(t, func() bool {
			for _, memory := range []*matrix.Memory{one, two} {
				for _, who := range []string{"one-", "two-"} {
					if _, ok, err := memory.Get(who + key); err != nil || !ok {
						return false
					}
				}
			}
			return true
		}, "round %d: both keys in both memories; the room has %s", i, bot.Standing(t, room))
	}
	want := `{"one-a":1,"one-b":1,"one-c":1,"start":1,"start2":1,"two-a":2,"two-b":2,"two-c":2}`
	eventually(t, func() bool { return bot.Standing(t, room)[""] == want }, "all keys in the room")
}
