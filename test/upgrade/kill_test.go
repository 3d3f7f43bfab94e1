package upgrade

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A mover is a bot that counts in its default room, in a process of its own, until it is killed. It prints each number
// that was acknowledged. JSON shows it whole, as it has no methods of a Config.
type mover matrix.Config

func init() { rig.Victim(mover.run) }

func (m mover) run() error {
	memory := matrix.New(matrix.Config(m), matrix.WithLogger(rig.Silence()))
	if err := memory.Open(context.Background()); err != nil {
		return err
	}
	for n := 1; ; n++ {
		if err := memory.Set("count", fmt.Append(nil, n)); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// countedTo returns the last number of a mover that was acknowledged, 0 if none was.
func countedTo(t testing.TB, told string) (last int) {
	t.Helper()
	lines := bufio.NewScanner(strings.NewReader(told))
	for lines.Scan() {
		n := 0
		_, err := fmt.Sscanln(lines.Text(), &n)
		require.NoError(t, err, "it ended by itself: %s", lines.Text())
		last = n
	}
	return last
}

// A bot is killed at some of the requests that it makes about the new room until all is there, by turns before and after the
// homeserver has acted, in a new room each time. The next start goes on, by the old ID, and nothing that was acknowledged
// is lost.
func TestKilledWhileItFollows(t *testing.T) {
	t.Parallel()
	own := rig.Own(t) // Dendrite does not always get over a client that dies in the midst of a request
	for name, stride := range map[string]int{"single": 3, "perkey": 7} {
		for kind, journals := range map[string]bool{"no journals": false, "journals": true} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				steps := 0
				for !killedWhileItFollows(t, own, rig.Layouts[name], journals, steps*stride, steps%2 == 1) {
					steps++
					require.Less(t, steps, 60, "it comes to an end")
				}
				require.GreaterOrEqual(t, steps*stride, 8, "it asks at least that on the way")
				t.Logf("it was killed at %d requests", steps)
			})
		}
	}
}

// killedWhileItFollows kills a bot at one of its requests about the new room, and says whether it had done before that
// what it had to.
func killedWhileItFollows(t *testing.T, own rig.Server, layout matrix.StateKey, journals bool, skip int, after bool) (done bool) {
	l := newLodger(t, own, layout, rig.Public, rig.Writable)
	if journals {
		l.conf.Journal = rig.Journal(t)
	}
	l.memory = rig.Open(t, l.conf)
	want := map[string]string{"tea": `"green"`, "milk": `1`}
	l.set(t, want)
	l.close(t)
	made := l.owner.NewRoom(t, rig.Public, rig.Writable, rig.Replacing(l.room))

	about := func(r *http.Request) bool { return rig.InPath(made.String())(r) && !homeserver.Sync(r) }
	reached, never := make(chan struct{}), make(chan struct{})
	if skip > 0 {
		l.front.Inject(homeserver.Fault{Match: about, Times: skip, Do: homeserver.Delay(0)})
	}
	pause := homeserver.PauseBefore
	if after {
		pause = homeserver.PauseAfter
	}
	l.front.Inject(homeserver.Fault{Match: about, Do: pause(reached, never)})
	told, kill := rig.StartTeller(t, mover(l.conf))
	eventually(t, func() bool { return strings.Contains(told.String(), "\n") }, "it counts: %s", told)
	l.owner.Bury(t, l.room, made)
	rig.Eventually(rig.Settling)(t, func() bool {
		select {
		case <-reached:
			return true
		default:
			return false
		}
	}, "it comes to request %d about the new room: %s", skip, told)
	held := l.owner.Entries(t, made)
	kill()
	done = held["tea"] == want["tea"] && held["milk"] == want["milk"] && held["count"] != ""

	l.conf.Homeserver = own.URL()
	l.memory = rig.Open(t, l.conf)
	defer l.close(t)
	last, got, count := countedTo(t, told.String()), rig.Entries(t, l.memory), 0
	_, err := fmt.Sscan(got["count"], &count)
	require.NoError(t, err)
	require.True(t, count == last || count == last+1, "request %d, after it was %t: it counted to %d, and %d is remembered", skip, after, last, count)
	want["count"] = got["count"]
	require.Equal(t, want, got)
	l.set(t, map[string]string{"rum": `1`})
	want["rum"] = `1`
	rig.Flush(t, l.memory, rig.Delivering)
	l.holds(t, made, want)

	// So does a bot that knows of no other room, once it has what the homeserver acknowledged just now.
	fresh := l.bot.Config(made)
	fresh.SingleStateKey = layout
	memory := rig.Open(t, fresh)
	defer memory.Close()
	eventually(t, func() bool { return maps.Equal(want, rig.Entries(t, memory)) }, "another bot has all that is there")
	return done
}
