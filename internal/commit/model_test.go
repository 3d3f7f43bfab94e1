package commit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// Every caller has keys of its own, so that it can say what must stand there; programs
// and memories that write meanwhile change keys of their own as well.
func TestAcknowledgedMeansStored(t *testing.T) {
	for name, layout := range map[string]wire.Layout{
		"one dictionary":        {},
		"an event for each key": {PerKey: true},
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				tr := draw(rt, layout)
				bubble(t, func() { tr.play(rt) })
			})
		})
	}
}

// A step is what one caller submits at once.
type step struct {
	keys   []int
	delete bool
}

// A traffic is what happens in a room.
type traffic struct {
	*server
	memories int
	oneName  bool // all memories use one account
	callers  [][]step
	foreign  []int // keys that a program changes
	faults   []int
	forked   bool // events are sent at the same moment as another, now and then
	deaf     bool // sync brings nothing before the end
	atOnce   bool // the memories are closed before anything has come to rest

	mu   sync.Mutex // owns all below
	luck []int
	calm bool
}

func draw(t *rapid.T, layout wire.Layout) *traffic {
	tr := &traffic{server: &server{layout: layout, state: make(map[string]int)}}
	tr.silent = layout.PerKey && rapid.Bool().Draw(t, "silent")
	tr.memories = rapid.IntRange(1, 2).Draw(t, "memories")
	tr.oneName = rapid.Bool().Draw(t, "one account")
	tr.callers = rapid.SliceOfN(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			keys:   rapid.SliceOfN(rapid.IntRange(0, 1), 1, 2).Draw(t, "keys"),
			delete: rapid.IntRange(0, 3).Draw(t, "delete") == 0,
		}
	}), 1, 6), 1, 4).Draw(t, "callers")
	tr.foreign = rapid.SliceOfN(rapid.IntRange(0, 2), 0, 6).Draw(t, "a program's keys")
	tr.faults = rapid.SliceOfN(rapid.IntRange(0, 15), 0, rapid.SampledFrom([]int{0, 30}).Draw(t, "most faults")).Draw(t, "faults")
	tr.forked = !layout.PerKey && rapid.Bool().Draw(t, "forks") // a homeserver forks nobody's own events, and each key has one writer
	tr.deaf = rapid.IntRange(0, 3).Draw(t, "deaf") == 0
	tr.atOnce = rapid.Bool().Draw(t, "closed at once")
	tr.luck = rapid.SliceOfN(rapid.IntRange(0, 99), 40, 40).Draw(t, "luck")
	return tr
}

// next returns a number below n.
func (tr *traffic) next(n int) int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	luck := tr.luck[0]
	tr.luck = append(tr.luck[1:], luck)
	return luck % n
}

// fault returns the next fault, which is at least 6 where all goes well.
func (tr *traffic) fault() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.calm || len(tr.faults) == 0 {
		return 15
	}
	fault := tr.faults[0]
	tr.faults = tr.faults[1:]
	return fault
}

// after lets some time pass, on the bubble's clock.
func (tr *traffic) after() { time.Sleep(time.Duration(tr.next(10)) * 10 * time.Millisecond) }

func (tr *traffic) fate(context.Context, json.RawMessage) fate {
	tr.after()
	switch tr.fault() {
	case 0:
		return fate{outcome: commit.Refused}
	case 1:
		return fate{outcome: commit.Invalid}
	case 2:
		return fate{outcome: commit.Unknown, stored: true}
	case 3:
		return fate{outcome: commit.Unknown}
	case 4:
		return fate{outcome: commit.Unknown, late: true}
	case 5:
		return fate{outcome: commit.Repeated, late: true}
	}
	return fate{outcome: commit.Stored}
}

func (tr *traffic) reads(context.Context) error {
	tr.after()
	if tr.fault() < 2 {
		return errNoReply
	}
	return nil
}

func (tr *traffic) opens(t *rapid.T, n int) *memory {
	name := "@bot:x"
	if !tr.oneName {
		name = fmt.Sprintf("@bot%d:x", n)
	}
	m := tr.join(name)
	require.NoError(t, m.open())
	m.fates(tr.fate)
	m.asked(tr.reads)
	m.loaded(tr.reads)
	return m
}

func (tr *traffic) play(t *rapid.T) {
	if tr.forked {
		tr.forks = func() (forked, wins bool) { return tr.next(3) == 0, tr.next(2) == 0 }
	}
	var memories []*memory
	for n := range tr.memories {
		m := tr.opens(t, n)
		defer m.queue.Close(context.Background())
		memories = append(memories, m)
	}
	ctx, stop := context.WithCancel(context.Background())
	var syncing, writing sync.WaitGroup
	defer syncing.Wait()
	defer stop()
	for _, m := range memories {
		syncing.Go(func() {
			for ctx.Err() == nil {
				tr.after()
				time.Sleep(time.Millisecond)
				switch {
				case tr.deaf:
				case tr.next(20) == 0:
					m.skips()
				default:
					m.sync()
				}
				if tr.next(4) == 0 {
					tr.deliver()
				}
			}
		})
	}
	theirs := make(map[string]string)
	writing.Go(func() {
		for n, k := range tr.foreign {
			key, value := fmt.Sprintf("theirs%d.%d", n, k), fmt.Sprintf(`"their %d"`, n)
			tr.server.foreign(key, value)
			theirs[key] = value
			tr.after()
		}
	})
	// may is what may stand under a caller's key; the last entry is acknowledged,
	// what is after it had no answer.
	may := make([]map[string][]string, len(tr.callers))
	for c, steps := range tr.callers {
		may[c] = make(map[string][]string)
		m := memories[c%len(memories)]
		writing.Go(func() {
			for n, step := range steps {
				tr.after()
				tr.submits(m, step, may[c], c, n)
			}
		})
	}
	writing.Wait()
	stop()
	syncing.Wait()

	tr.mu.Lock()
	tr.calm = true
	tr.mu.Unlock()
	for tr.deliver() {
	}
	if !tr.atOnce {
		for _, m := range memories {
			m.rests(t)
		}
	}
	var closing sync.WaitGroup
	for _, m := range memories {
		if tr.layout.PerKey { // there only sync tells a late request from one that stands
			m.syncs()
		}
		closing.Go(func() { m.queue.Close(context.Background()) })
	}
	closing.Wait()
	// One can be closed when the other writes, or before it hears of what came late.
	late := slices.ContainsFunc(memories, func(m *memory) bool { return m.knows < tr.came })
	if len(memories) > 1 || late {
		m := tr.opens(t, len(memories))
		defer m.queue.Close(context.Background())
		m.rests(t)
		memories = append(memories, m)
	}
	got := tr.entries(t)
	if len(memories) > 1 || !tr.atOnce { // else it need not have heard of what others wrote
		text, err := json.Marshal(got)
		require.NoError(t, err)
		memories[len(memories)-1].remembers(t, string(text))
	}
	for c := range may {
		for k := range 2 {
			key := fmt.Sprintf("caller%d.%d", c, k)
			allowed := may[c][key]
			if len(allowed) == 0 {
				allowed = []string{""}
			}
			require.Contains(t, allowed, string(got[key]), "what stands under %s", key)
		}
	}
	for key, value := range theirs {
		if tr.forked { // what it wrote upon an event that lost may be lost
			break
		}
		require.Equal(t, value, string(got[key]), "what a program stored under %s", key)
	}
}

// submits submits a caller's step, and notes what may stand there after it.
func (tr *traffic) submits(m *memory, step step, may map[string][]string, c, n int) {
	after := make(map[string]string)
	var changes []commit.Change
	for _, k := range step.keys {
		key := fmt.Sprintf("caller%d.%d", c, k)
		change := commit.Change{Key: key, Delete: step.delete}
		after[key] = ""
		if !step.delete {
			after[key] = fmt.Sprintf(`"caller %d, step %d"`, c, n)
			change.Value = []byte(after[key])
		}
		changes = append(changes, change)
	}
	_, err := m.queue.Submit(context.Background(), changes...)
	for key, value := range after {
		switch {
		case err == nil:
			may[key] = []string{value}
		case errors.Is(err, commit.ErrUnknownOutcome), tr.layout.PerKey && len(after) > 1:
			if len(may[key]) == 0 {
				may[key] = []string{""}
			}
			may[key] = append(may[key], value)
		}
	}
}

// skips is a gap of sync.
func (m *memory) skips() {
	m.server.mu.Lock()
	m.synced = len(m.log)
	m.server.mu.Unlock()
	m.missed()
}

// rests lets sync bring all that is written, until nothing more is.
func (m *memory) rests(t *rapid.T) {
	for range 20 {
		m.syncs()
		m.server.mu.Lock()
		before := len(m.log)
		m.server.mu.Unlock()
		passes(10 * time.Minute)
		m.server.mu.Lock()
		after := len(m.log)
		m.server.mu.Unlock()
		if before == after {
			return
		}
	}
	require.Fail(t, "it writes for ever")
}
