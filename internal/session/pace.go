package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"maunium.net/go/mautrix/id"
)

// An Urgency says who waits for what is sent.
type Urgency int

const (
	Answer Urgency = iota // a person, for what the bot says
	Write                 // a program, for what it stores
	Chore                 // nobody
)

// mostPassed is how often others that are more urgent go first. So nothing waits for ever.
var mostPassed = [...]int{Answer: 0, Write: 4, Chore: 50}

// ErrGaveWay says that what nobody waits for was not sent, as something else came.
var ErrGaveWay = errors.New("not sent: it gave way to what somebody waits for")

// A pace lets go what the account sends. The homeserver's limit is one for all rooms, so what
// each of them tries by itself is mostly refused. While there is no limit all go at once; else
// each waits for its turn: first what is most urgent, then the room whose last turn was the
// longest ago, then what came first. What is refused has its place still.
type pace struct {
	mu sync.Mutex // owns what follows, and what changes of turns
	allowance
	waiting  []*turn
	timer    *time.Timer // lets go what waits; it runs only while something does
	answer   error       // the last refusal
	arrivals int
	turns    int           // that were taken
	took     map[place]int // the number of the last turn
	passed   [len(mostPassed)]int
}

// A turn is one event's at the pace, from the first attempt to send it to the last.
type turn struct {
	place
	part  bool            // another event of the same write follows: the room's turn goes on
	yield <-chan struct{} // once it is closed, the event is not sent any more; nil: never

	arrival int // 0: it has not come yet
	latest  time.Time
	before  int           // the room's last turn before this one
	passed  int           // how often more urgent ones had gone first then
	ready   chan struct{} // closed when it may go, or there is err
	err     error
	trip    trip
}

// A place is where turns are taken in order.
type place struct {
	urgency Urgency
	room    id.RoomID
}

func newTurn(idle context.Context, room id.RoomID, urgency Urgency) *turn {
	t := &turn{place: place{urgency, room}}
	if idle != nil {
		t.yield = idle.Done()
	}
	return t
}

func newPace() *pace { return &pace{took: make(map[place]int)} }

// wait waits until a turn has come, and fails if that can't be before latest.
func (p *pace) wait(ctx context.Context, t *turn, latest time.Time) error {
	p.arrive(t, latest)
	select {
	case <-t.ready:
	case <-ctx.Done():
	case <-t.yield:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.leave(t) {
		return t.err
	}
	p.dispatch()
	if ctx.Err() == nil {
		return ErrGaveWay
	}
	return fmt.Errorf("waiting for its turn, as the homeserver limits how much the account sends (%w): %w", p.answer, ctx.Err())
}

func (p *pace) arrive(t *turn, latest time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.rest(time.Now())
	}
	if t.arrival == 0 {
		p.arrivals++
		t.arrival = p.arrivals
	}
	t.latest, t.err, t.ready = latest, nil, make(chan struct{})
	p.waiting = append(p.waiting, t)
	p.dispatch()
}

// leave takes a turn from those that wait, and says whether it was among them.
func (p *pace) leave(t *turn) bool {
	i := slices.Index(p.waiting, t)
	if i < 0 {
		return false
	}
	p.waiting = slices.Delete(p.waiting, i, i+1)
	return true
}

// done takes over what became of an attempt, and returns how long the homeserver asks to wait.
func (p *pace) done(t *turn, err error, v verdict) (wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil:
		p.grant(t.trip, now)
		p.pass(t.urgency)
		if t.part {
			p.took[t.place] = -p.turns // before all others
		}
	case v.limited:
		wait = p.refuse(t.trip, now, v.wait)
		p.answer = err
		p.took[t.place], p.passed[t.urgency] = t.before, t.passed
	default:
		p.fail(t.trip, v.acted)
	}
	p.dispatch()
	return wait
}

// dispatch lets go what may go now, turns away what has no time left to wait, and sees to it
// that it is called again. It is called with mu held.
func (p *pace) dispatch() {
	now := time.Now()
	for len(p.waiting) > 0 {
		t, owed := p.first()
		at := p.when(now, t.urgency == Chore && !owed)
		if !at.After(now) {
			p.release(t, now)
		} else if !p.turnAway(now) {
			p.wake(at.Sub(now))
			return
		}
	}
	clear(p.took)
	if p.timer != nil {
		p.timer.Stop()
	}
}

// first returns the turn that is next. owed says that more urgent ones went first so often that
// it need not be left behind any more.
func (p *pace) first() (next *turn, owed bool) {
	urgency := Chore
	for _, t := range p.waiting {
		urgency = min(urgency, t.urgency)
	}
	for _, t := range p.waiting {
		if t.urgency > urgency && p.passed[t.urgency] >= mostPassed[t.urgency] {
			urgency, owed = t.urgency, true
		}
	}
	for _, t := range p.waiting {
		if t.urgency != urgency {
			continue
		}
		if next == nil || p.took[t.place] < p.took[next.place] || p.took[t.place] == p.took[next.place] && t.arrival < next.arrival {
			next = t
		}
	}
	return next, owed
}

// release lets a turn go.
func (p *pace) release(t *turn, now time.Time) {
	p.leave(t)
	t.trip = p.depart(now, t.urgency == Chore)
	p.turns++
	t.before, p.took[t.place] = p.took[t.place], p.turns
	t.passed, p.passed[t.urgency] = p.passed[t.urgency], 0
	close(t.ready)
}

// pass notes that a turn was taken before what is less urgent.
func (p *pace) pass(urgency Urgency) {
	for u := urgency + 1; int(u) < len(p.passed); u++ {
		if slices.ContainsFunc(p.waiting, func(t *turn) bool { return t.urgency == u }) {
			p.passed[u]++
		}
	}
}

// turnAway ends the turns that would come too late, and says whether there were any. Nothing
// may go now.
func (p *pace) turnAway(now time.Time) bool {
	before := len(p.waiting)
	asked := later(p.next, p.named)
	p.waiting = slices.DeleteFunc(p.waiting, func(t *turn) bool {
		if !asked.After(t.latest) {
			return false
		}
		t.err = tooLong(asked.Sub(now).Round(time.Millisecond), p.timeout, t.latest.Sub(now), p.answer)
		close(t.ready)
		return true
	})
	return len(p.waiting) < before
}

// wake calls dispatch after a while.
func (p *pace) wake(after time.Duration) {
	if p.timer == nil {
		p.timer = time.AfterFunc(after, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.dispatch()
		})
		return
	}
	p.timer.Reset(after)
}
