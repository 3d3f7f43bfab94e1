package journal

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// ordersEnv makes a test process a victim, which runs no tests but does what the orders say until it is killed.
const ordersEnv = "MATRIX_MEMORY_TEST_JOURNAL"

// limitFiles limits how large a file may become that this process writes, where the system can do that.
var limitFiles = func(int) error { return errors.ErrUnsupported }

type orders struct {
	Path, Key string
	Seed      uint64
	First     int // the first value to put
	Limit     int // how many bytes a file may have; 0: any number
}

func victim() {
	text, ordered := os.LookupEnv(ordersEnv)
	if !ordered {
		return
	}
	var o orders
	err := json.Unmarshal([]byte(text), &o)
	if err == nil && o.Limit > 0 {
		err = limitFiles(o.Limit)
	}
	if err == nil {
		err = o.run()
	}
	fmt.Println("failed", err)
	os.Exit(1)
}

// next is a room that takes the other's place, and the other way round.
const next = "!next:example.org"

// current returns the room that a journal's changes are in, and the other one.
func current(j *Journal) (at, other string) {
	if len(j.Changes(next)) > 0 {
		return next, room
	}
	return room, next
}

// run puts, attempts, removes and moves at random, each value greater than the last. It prints a line once something was acknowledged,
// and before something is removed.
func (o orders) run() error {
	j, err := Open(o.Path, options(o.Key))
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(o.Seed, 0))
	room, next := current(j)
	for value := o.First; ; value++ {
		key := fmt.Sprint("key", random.IntN(10))
		padding := strings.Repeat(" ", random.IntN(3)*3000)
		if err := j.Put(room, Change{Key: key, Value: fmt.Appendf(nil, "%d%s", value, padding)}); err != nil {
			return err
		}
		fmt.Println("put", key, value)
		if random.IntN(2) == 0 {
			c, _ := j.Get(room, key)
			at := Attempt{Depth: int64(value), ID: "id"}
			if err := j.Attempted(room, at, map[string]uint64{key: c.Seq}); err != nil {
				return err
			}
			fmt.Println("attempted", key, value)
			if random.IntN(2) == 0 {
				fmt.Println("done", key, value)
				j.Done(room, map[string]uint64{key: c.Seq})
			}
		}
		if random.IntN(4) == 0 {
			if err := j.Move(room, next, Known{}, asItIs); err != nil {
				return err
			}
			room, next = next, room
		}
	}
}

// start starts a victim, and returns what it prints.
func (o orders) start(t *testing.T) (lines *bufio.Scanner, cmd *exec.Cmd) {
	text, err := json.Marshal(o)
	require.NoError(t, err)
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), ordersEnv+"="+string(text))
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill() })
	return bufio.NewScanner(out), cmd
}

// heard is what a victim said: by key, the greatest value that was put, attempted, and that may be gone.
type heard struct{ put, attempted, done map[string]int }

// note takes a line, and returns false for one that says something else.
func (h heard) note(t *testing.T, line string) bool {
	var what, key string
	var value int
	if n, _ := fmt.Sscan(line, &what, &key, &value); n != 3 {
		return false
	}
	said := map[string]map[string]int{"put": h.put, "attempted": h.attempted, "done": h.done}[what]
	require.NotNil(t, said, line)
	said[key] = value
	return true
}

// last is the greatest value that was heard of.
func (h heard) last() (last int) {
	for _, value := range h.put {
		last = max(last, value)
	}
	return last
}

// require checks that all that was acknowledged is there, and nothing but it and one value that was under way.
func (h heard) require(t *testing.T, j *Journal) {
	t.Helper()
	room, other := current(j)
	require.Empty(t, j.Changes(other), "all were moved, or none")
	for i := range 10 {
		key := fmt.Sprint("key", i)
		c, there := j.Get(room, key)
		if !there {
			require.Equal(t, h.put[key], h.done[key], key)
			continue
		}
		var value int
		_, err := fmt.Sscan(string(c.Value), &value)
		require.NoError(t, err)
		require.True(t, value == h.put[key] || value == h.last()+1, "%s is %d after %d, and %d was last", key, value, h.put[key], h.last())
		if value == h.attempted[key] {
			require.Equal(t, &Attempt{Depth: int64(value), ID: "id"}, c.Attempt)
		}
		require.GreaterOrEqual(t, j.Depth(room), int64(h.attempted[key]))
	}
}

// A process is killed again and again in the midst of what it does to one journal.
func TestKill(t *testing.T) {
	t.Parallel() // it waits for the disk
	for _, key := range []string{"", passphrase} {
		kills := 20
		if key != "" {
			kills = 2
		}
		path := newPath(t)
		h := heard{map[string]int{}, map[string]int{}, map[string]int{}}
		for kill := range kills {
			o := orders{Path: path, Key: key, Seed: uint64(kill), First: h.last() + 1}
			lines, cmd := o.start(t)
			for n := 1 + rand.IntN(60); n > 0; n-- {
				require.True(t, lines.Scan())
				require.True(t, h.note(t, lines.Text()), lines.Text())
			}
			require.NoError(t, cmd.Process.Kill())
			for lines.Scan() { // what it said before it was gone
				require.True(t, h.note(t, lines.Text()), lines.Text())
			}
			require.Error(t, cmd.Wait())
			j := open(t, path, key)
			h.require(t, j)
			room, _ := current(j)
			for _, c := range j.Changes(room) { // what was under way is put as well
				var value int
				fmt.Sscan(string(c.Value), &value)
				h.put[c.Key] = value
			}
			require.NoError(t, j.Close())
		}
	}
}
