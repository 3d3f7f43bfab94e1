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
)

// Two memories that write the same dictionary as fast as they can take each other's
// keys away all the time. In the end each key is as its writer set it last.
func TestTwoMemoriesWriteAtOnce(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	memories := map[string]*matrix.Memory{"a": open(t, bot.config(room)), "b": open(t, bot.config(room))}
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
	eventually(t, func() bool { return bot.state(t, room)[""] == string(content) }, "all that was acknowledged: %s", content)
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
	bot := register(t)
	r := behind(t, proxy(t), bot, 3*time.Second, matrix.OneStateKey)
	require.NoError(t, r.Set("start", []byte(`1`)))
	r.inStep(t)
	restore := r.loseSync(t)
	_, err := bot.SendStateEvent(t.Context(), r.room, memoryType, "", map[string]int{"start": 1, "theirs": 1})
	require.NoError(t, err)
	require.NoError(t, r.Set("ours", []byte(`1`)))
	require.JSONEq(t, `{"start":1,"ours":1}`, bot.state(t, r.room)[""])
	r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: homeserver.RateLimit(time.Minute)})
	restore()
	eventually(t, func() bool { return bot.state(t, r.room)[""] == `{"ours":1,"start":1,"theirs":1}` }, "theirs is back")
}

// A change that sync announces and whose reading fails shows later, without a write.
func TestReadsAgainWhatItCouldNotRead(t *testing.T) {
	bot := register(t)
	front := proxy(t)
	room := bot.newRoom(t)
	_, err := bot.SendStateEvent(t.Context(), room, memoryType, "", map[string]any{"k": "old"})
	require.NoError(t, err)
	conf := bot.config(room)
	conf.Homeserver, conf.Timeout = front.URL(), 3*time.Second
	memory := open(t, conf)
	r := rig{bot, memory, front, room, conf.Timeout}
	front.Inject(homeserver.Fault{Match: stateRead, Times: 1, Do: homeserver.RateLimit(time.Minute)})
	_, err = bot.SendStateEvent(t.Context(), room, memoryType, "", map[string]any{"k": "new"})
	require.NoError(t, err)
	eventually(t, func() bool { return len(r.seen(stateRead)) > 0 }, "it is read")
	eventually(t, func() bool {
		value, _, err := memory.Get("k")
		return err == nil && string(value) == `"new"`
	}, "the new value")
}
