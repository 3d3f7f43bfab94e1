package commit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// Every caller has keys of its own, so that it can say what must stand there;
// another writer changes keys of its own as well.
func TestAcknowledgedMeansStored(t *testing.T) {
	for name, layout := range map[string]wire.Layout{
		"one dictionary":        {},
		"an event for each key": {PerKey: true},
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { anyTraffic(t, layout) })
		})
	}
}

// A step is what one caller submits at once.
type step struct {
	keys   []int
	delete bool
}

func anyTraffic(t *rapid.T, layout wire.Layout) {
	steps := rapid.SliceOfN(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			keys:   rapid.SliceOfN(rapid.IntRange(0, 1), 1, 2).Draw(t, "keys"),
			delete: rapid.IntRange(0, 3).Draw(t, "delete") == 0,
		}
	}), 1, 6), 1, 4).Draw(t, "callers")
	most := rapid.SampledFrom([]int{0, 20}).Draw(t, "most faults")
	faults := rapid.SliceOfN(rapid.IntRange(0, 9), 0, most).Draw(t, "faults")
	foreign := rapid.SliceOfN(rapid.IntRange(0, 2), 0, 6).Draw(t, "another writer's keys")

	s := &server{layout: layout, limit: 60_000, state: make(map[string]replica.Event)}
	s.load()
	sound := len(faults) == 0
	var calm atomic.Bool
	s.fault = func(_ context.Context, content json.RawMessage) (commit.Outcome, bool) {
		if calm.Load() || len(faults) == 0 {
			return commit.Stored, true
		}
		fault := faults[0]
		faults = faults[1:]
		switch fault {
		case 0:
			return commit.Refused, false
		case 1:
			return commit.Invalid, false
		case 2, 3:
			return commit.Unknown, fault == 2
		}
		return commit.Stored, true
	}
	s.open(time.Minute)

	ctx, stop := context.WithCancel(context.Background())
	var others, callers sync.WaitGroup
	others.Go(func() {
		for ctx.Err() == nil {
			if !s.sync() {
				runtime.Gosched()
			}
		}
	})
	theirs := make(map[string]string)
	callers.Go(func() {
		for n, k := range foreign {
			key, value := fmt.Sprintf("theirs%d", k), fmt.Sprintf(`"their %d"`, n)
			s.foreign(key, value)
			theirs[key] = value
		}
	})
	// may is what may stand under a caller's key; the last entry is acknowledged,
	// what is after it had no answer.
	may := make([]map[string][]string, len(steps))
	for c := range steps {
		may[c] = make(map[string][]string)
		callers.Go(func() {
			for n, step := range steps[c] {
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
				_, err := s.queue.Submit(context.Background(), changes...)
				for key, value := range after {
					switch {
					case err == nil:
						may[c][key] = []string{value}
					case layout.PerKey && len(after) > 1 || !strings.Contains(err.Error(), "forbidden") && !strings.Contains(err.Error(), "bad JSON"):
						if len(may[c][key]) == 0 {
							may[c][key] = []string{""}
						}
						may[c][key] = append(may[c][key], value)
					}
				}
			}
		})
	}
	callers.Wait()
	stop()
	others.Wait()
	for s.sync() {
	}
	calm.Store(true)
	_, err := s.queue.Submit(context.Background(), set("last", "0")) // the queue still works, and reads again what it must
	require.NoError(t, err)
	for s.sync() {
	}
	s.queue.Wake()
	s.queue.Close(context.Background())
	for s.sync() {
	}

	got := s.entries(t)
	text, err := json.Marshal(got)
	require.NoError(t, err)
	s.remembers(t, string(text))
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
	if sound {
		for key, value := range theirs {
			require.Equal(t, value, string(got[key]), "what another writer stored under %s", key)
		}
	}
}
