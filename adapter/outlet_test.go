package adapter

import (
	"runtime"
	"sync"
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
)

// collector collects what is emitted.
type collector struct {
	mu     sync.Mutex
	events []any
}

func (c *collector) Emit(evt interface{}, _ ...func(joe.Event)) {
	c.mu.Lock()
	c.events = append(c.events, evt)
	c.mu.Unlock()
	runtime.Gosched() // to whoever might come between
}

// What several rooms emit at once stays together.
func TestEventsStayTogether(t *testing.T) {
	var c collector
	var o outlet
	o.open(&c)
	var rooms sync.WaitGroup
	for room := range 8 {
		rooms.Go(func() {
			for range 200 {
				o.emitAll(emission{data: room}, emission{data: room})
			}
		})
	}
	rooms.Wait()
	require.Len(t, c.events, 8*2*200)
	for i := 0; i < len(c.events); i += 2 {
		require.Equal(t, c.events[i], c.events[i+1])
	}
}
