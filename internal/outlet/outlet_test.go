package outlet

import (
	"runtime"
	"sync"
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
)

// A slow is a brain that is done with an event some time after it was emitted.
type slow struct {
	events chan joe.Event
	most   int // that waited at once
}

func (s *slow) Emit(evt interface{}, callbacks ...func(joe.Event)) {
	s.events <- joe.Event{Data: evt, Callbacks: callbacks}
	s.most = max(s.most, len(s.events))
	runtime.Gosched() // to whoever might come between
}

// What several rooms emit at once stays together, and joe has no more than that at a
// time.
func TestEventsStayTogether(t *testing.T) {
	const rooms, times = 8, 200
	s := slow{events: make(chan joe.Event, 2*rooms*times)}
	var o Outlet
	o.Open(&s)
	var emitting sync.WaitGroup
	for room := range rooms {
		emitting.Go(func() {
			for range times {
				o.EmitAll(t.Context(), Emission{Data: room}, Emission{Data: room})
			}
		})
	}
	var handled []any
	for range 2 * rooms * times {
		evt := <-s.events
		handled = append(handled, evt.Data)
		for _, done := range evt.Callbacks {
			done(evt)
		}
	}
	emitting.Wait()
	for i := 0; i < len(handled); i += 2 {
		require.Equal(t, handled[i], handled[i+1])
	}
	require.LessOrEqual(t, s.most, 2)
}

// A closing is a brain that shuts down while it is told of an event: joe's then closes the
// channel that Emit sends to.
type closing struct{ input chan any }

func (c closing) Emit(evt interface{}, _ ...func(joe.Event)) {
	close(c.input)
	c.input <- evt
}

// A brain that shuts down by itself meanwhile takes nothing with it, and who comes after that
// waits no longer than the bot lasts.
func TestBrainShutsDownAtThatMoment(t *testing.T) {
	var o Outlet
	o.Open(closing{make(chan any)})
	o.Emit(1)
	letsGo(&o)
}

// letsGo checks that rooms whose turn does not come wait no longer than until the outlet is shut.
func letsGo(o *Outlet) {
	var rooms sync.WaitGroup
	for range 8 {
		rooms.Go(func() { o.Emit(2) })
	}
	o.Shut()
	rooms.Wait()
}

// Silent is a brain that never is done with anything.
type silent struct{ emitted int }

func (s *silent) Emit(interface{}, ...func(joe.Event)) { s.emitted++ }

// Who waits for joe waits no longer than the bot lasts.
func TestShutOutletLetsGo(t *testing.T) {
	var s silent
	var o Outlet
	o.Open(&s)
	o.Emit(1)
	letsGo(&o)
	o.Emit(3)
	o.Shut()
	require.Equal(t, 1, s.emitted)
}
