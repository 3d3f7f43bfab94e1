package test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A victim is a bot that makes one write, in a process of its own, to be killed.
type victim struct {
	Homeserver, Token, Room string
	Layout                  matrix.StateKey
	Delete                  bool // both keys, and else the first is set
}

// The keys of these tests. The victim writes to the first two.
var killKeys = []string{"tea", "coffee", "other"}

const acknowledged = "acknowledged"

func init() { rig.Victim(victim.run) }

// run writes, says so, and waits to be killed.
func (v victim) run() error {
	memory := matrix.New(matrix.Config{
		Homeserver: v.Homeserver, AccessToken: v.Token, DefaultRoom: v.Room, SingleStateKey: v.Layout,
	}, matrix.WithLogger(rig.Silence()))
	if err := memory.Open(context.Background()); err != nil {
		return err
	}
	var err error
	if v.Delete {
		_, err = memory.InRoom(v.Room).DeleteAll(killKeys[0], killKeys[1])
	} else {
		err = memory.Set(killKeys[0], []byte(renewed))
	}
	if err != nil {
		return err
	}
	fmt.Println(acknowledged)
	_, err = io.ReadAll(os.Stdin) // until the test ends
	return err
}

// seed gives all keys their old value.
func seed(t testing.TB, bot rig.Account, room id.RoomID, layout matrix.StateKey) {
	t.Helper()
	whole := make(map[string]any)
	for _, key := range killKeys {
		whole[key] = "old"
		if layout == matrix.PerKey {
			bot.Put(t, room, key, map[string]any{key: "old"})
		}
	}
	if layout != matrix.PerKey {
		bot.Put(t, room, string(layout), whole)
	}
}

// holds checks what the room remembers, as a bot that starts now sees it.
func holds(t testing.TB, conf matrix.Config, want map[string]string) {
	t.Helper()
	memory := rig.Open(t, conf)
	defer memory.Close()
	got := make(map[string]string)
	keys, err := memory.Keys()
	require.NoError(t, err)
	for _, key := range keys {
		value, ok, err := memory.Get(key)
		require.NoError(t, err)
		require.True(t, ok)
		got[key] = string(value)
	}
	require.Equal(t, want, got)
}

const old, renewed = `"old"`, `"new"`

// A bot is killed at each step of a write. Afterwards the old or the new value is
// there, whole, other keys are as they were, and what was acknowledged is there.
func TestKilled(t *testing.T) {
	type step struct {
		before int // requests that go through
		pause  func(reached chan<- struct{}, release <-chan struct{}) homeserver.Action
		want   map[string]string
	}
	untouched := map[string]string{"tea": old, "coffee": old, "other": old}
	set := map[string]string{"tea": renewed, "coffee": old, "other": old}
	one := map[string]string{"coffee": old, "other": old}
	both := map[string]string{"other": old}
	before, after := homeserver.PauseBefore, homeserver.PauseAfter
	sets := []step{{0, before, untouched}, {0, after, set}, {1, nil, set}}

	// On a server of its own: Dendrite does not always get over a client that dies
	// in the midst of a request.
	own := rig.Own(t)
	bot := own.Login(t, "bot")
	for name, test := range map[string]struct {
		layout  matrix.StateKey
		deletes bool
		steps   []step
	}{
		"single set":    {matrix.OneStateKey, false, sets},
		"single delete": {matrix.OneStateKey, true, []step{{0, before, untouched}, {0, after, both}, {1, nil, both}}},
		"perkey set":    {matrix.PerKey, false, sets},
		"perkey delete": {matrix.PerKey, true, []step{{0, before, untouched}, {0, after, one}, {1, before, one}, {1, after, both}, {2, nil, both}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			room := bot.NewRoom(t)
			for i, step := range test.steps {
				seed(t, bot, room, test.layout)
				front := own.Proxy(t)
				reached, never := make(chan struct{}), make(chan struct{})
				if step.before > 0 {
					front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: step.before, Do: homeserver.Delay(0)})
				}
				if step.pause != nil {
					front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: step.pause(reached, never)})
				}
				line, kill := rig.StartVictim(t, victim{front.URL(), bot.AccessToken, room.String(), test.layout, test.deletes})
				select {
				case <-reached:
				case text := <-line:
					require.Equal(t, acknowledged, text)
					require.Nil(t, step.pause, "step %d: nothing is acknowledged before the homeserver has answered", i)
				case <-time.After(time.Minute):
					t.Fatalf("step %d: the bot has not come to the write within a minute", i)
				}
				kill()
				conf := bot.Config(room)
				conf.SingleStateKey, conf.Timeout = test.layout, time.Minute
				holds(t, conf, step.want)
			}
		})
	}
}

// The homeserver is killed at each step of a write and started again. What was
// acknowledged is there, and the write goes on by itself.
func TestHomeserverKilled(t *testing.T) {
	t.Parallel()
	own := rig.Own(t)
	front := own.Proxy(t)
	bot := own.Login(t, "bot")

	for name, layout := range map[string]matrix.StateKey{"single": matrix.OneStateKey, "perkey": matrix.PerKey} {
		t.Run(name, func(t *testing.T) {
			room := bot.NewRoom(t)
			seed(t, bot, room, layout)
			conf := bot.Config(room)
			conf.Homeserver, conf.SingleStateKey, conf.Timeout = front.URL(), layout, time.Minute
			memory := rig.Open(t, conf)
			values := map[string]string{"tea": old, "coffee": old, "other": old}

			for step, pause := range []func(chan<- struct{}, <-chan struct{}) homeserver.Action{homeserver.PauseBefore, homeserver.PauseAfter, rig.LostAfter} {
				value := fmt.Sprint(step)
				release, written := rig.Paused(t, front, pause, func() error { return memory.Set("tea", []byte(value)) })
				require.NoError(t, own.Kill(front))
				release()
				require.NoError(t, own.Restart(t.Context()))
				require.NoError(t, <-written)
				values["tea"] = value
			}
			require.NoError(t, memory.Set("coffee", []byte(`"acknowledged"`)))
			values["coffee"] = `"acknowledged"`
			require.NoError(t, own.Kill(front))
			require.NoError(t, own.Restart(t.Context()))
			require.NoError(t, memory.Close())
			holds(t, conf, values)
		})
	}
}

// The homeserver is killed and started again while two memories write. Nothing that was
// acknowledged is lost, to them neither.
func TestHomeserverKilledWhileTwoWrite(t *testing.T) {
	rig.WithAndWithoutJournals(t, homeserverKilledWhileTwoWrite)
}

func homeserverKilledWhileTwoWrite(t *testing.T, journals bool) {
	const keys, kills = 100, 2
	own := rig.Own(t)
	all := rig.CrowdWith(t, own, 2, matrix.OneStateKey, journals)
	want := make(map[string]string)
	var acknowledged atomic.Int32
	writing := make(chan struct{})
	for i := range all {
		for k := range keys {
			want[fmt.Sprint(i, "-", k)] = `1`
		}
	}
	go func() {
		defer close(writing)
		rig.AtOnce(t, all, func(i int, r rig.Proxied) error {
			for k := range keys {
				key := fmt.Sprint(i, "-", k)
				err := r.Set(key, []byte(`1`))
				for err != nil { // its time may be over
					if errors.Is(err, matrix.ErrClosed) {
						return nil // the test has failed
					}
					err = r.Set(key, []byte(`1`))
				}
				acknowledged.Add(1)
			}
			return nil
		})
	}()
	for kill := range int32(kills) {
		rig.Eventually(5*time.Minute)(t, func() bool { return acknowledged.Load() > (kill+1)*2*keys/(kills+1) }, "they write")
		require.NoError(t, own.Kill(all[0].Front, all[1].Front))
		require.NoError(t, own.Restart(t.Context()))
	}
	<-writing
	for _, r := range all {
		rig.Flush(t, r.Memory, rig.Delivering)
	}
	rig.Settle(t, want, rig.Lasting, all...)
	fresh := rig.Open(t, all[0].Config(all[0].Room))
	require.Empty(t, rig.Compare("a memory that starts now", want, rig.Entries(t, fresh)))
}
