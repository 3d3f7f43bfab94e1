package adapter

import (
	"context"
	"slices"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// How long a message waits for its key, which comes by another way and may be
// later, or never.
const (
	keyWait  = time.Second      // in its place, where all that follows in the room waits with it
	keyWaits = 5 * time.Second  // all such waits of a room in a minute
	asideFor = 10 * time.Minute // set aside, from the first message with that key
	maxAside = 100              // messages of a room that are set aside
)

// Aside is what a room's lane has set aside, as its keys have not come, and how
// long it has waited. The lane owns it; for each key a goroutine waits, which ends
// with the adapter or when nothing needs the key any more, and tells the lane.
type aside struct {
	events []*event.Event // in the order of the room
	waits  map[id.SessionID]context.CancelFunc
	full   bool // it was said that there are too many

	minute time.Time     // when the minute began in which it has waited
	waited time.Duration // in that minute
}

// keyOf returns the session by which an event is encrypted.
func keyOf(evt *event.Event) id.SessionID { return evt.Content.AsEncrypted().SessionID }

// has says whether an event's key is waited for.
func (s *aside) has(evt *event.Event) bool { return s.waits[keyOf(evt)] != nil }

// take removes the events of which it holds, and returns them.
func (s *aside) take(is func(*event.Event) bool) (taken []*event.Event) {
	s.events = slices.DeleteFunc(s.events, func(evt *event.Event) bool {
		if is(evt) {
			taken = append(taken, evt)
			return true
		}
		return false
	})
	for key, end := range s.waits {
		if !slices.ContainsFunc(s.events, func(evt *event.Event) bool { return keyOf(evt) == key }) {
			end()
			delete(s.waits, key)
		}
	}
	s.full = s.full && len(s.events) > 0
	return taken
}

// forget removes all.
func (s *aside) forget() { s.take(func(*event.Event) bool { return true }) }

// oldestOfMost returns the oldest event of the sender who has most: who sends many
// pushes out what others said only if they send as many.
func (s *aside) oldestOfMost() *event.Event {
	count := make(map[id.UserID]int)
	for _, evt := range s.events {
		count[evt.Sender]++
	}
	var oldest *event.Event
	for _, evt := range s.events {
		if oldest == nil || count[evt.Sender] > count[oldest.Sender] {
			oldest = evt
		}
	}
	return oldest
}

// hasKey says whether an event's key is there. It waits a little, but not if others
// wait already, after which the event has to come.
func (a *adapter) hasKey(r *room, evt *event.Event) bool {
	if r.aside.has(evt) {
		return false
	}
	began := time.Now()
	if began.Sub(r.aside.minute) >= time.Minute {
		r.aside.minute, r.aside.waited = began, 0
	}
	there := a.waitForKey(a.ctx, evt, max(0, min(keyWait, keyWaits-r.aside.waited)))
	r.aside.waited += time.Since(began)
	return there
}

func (a *adapter) waitForKey(ctx context.Context, evt *event.Event, wait time.Duration) bool {
	content := evt.Content.AsEncrypted()
	return a.client.Crypto.WaitForSession(ctx, evt.RoomID, content.SenderKey, content.SessionID, wait)
}

// setAside keeps an event until its key comes.
func (a *adapter) setAside(r *room, evt *event.Event) {
	if !r.aside.has(evt) {
		a.log(r.id).WithField("event", evt.ID.String()).Infof("The key of a message has not come yet; it is heard if its key comes within %s", asideFor)
		if r.aside.waits == nil {
			r.aside.waits = make(map[id.SessionID]context.CancelFunc)
		}
		ctx, end := context.WithCancel(a.ctx)
		r.aside.waits[keyOf(evt)] = end
		a.lanes.Go(func() { a.awaitKey(ctx, r, evt) })
	}
	r.aside.events = append(r.aside.events, evt)
	if len(r.aside.events) > maxAside {
		if !r.aside.full {
			r.aside.full = true
			a.log(r.id).Warnf("The keys of more than %d messages have not come; the oldest are not heard, first of those who sent most", maxAside)
		}
		oldest := r.aside.oldestOfMost()
		r.aside.take(func(evt *event.Event) bool { return evt == oldest })
	}
}

// awaitKey waits for an event's key, and has the room's lane read what was set aside
// for it, or give it up.
func (a *adapter) awaitKey(ctx context.Context, r *room, evt *event.Event) {
	defer session.Survive(a.log(r.id), "waiting for a message's key")
	a.waitForKey(ctx, evt, asideFor)
	a.mu.Lock()
	defer a.mu.Unlock()
	if ctx.Err() == nil {
		r.queue = append(r.queue, news{key: keyOf(evt)})
		a.wake(r)
	}
}

// bringBack hears what was set aside for a key.
func (a *adapter) bringBack(r *room, key id.SessionID) {
	var failed int
	var fault error
	for _, evt := range r.aside.take(func(evt *event.Event) bool { return keyOf(evt) == key }) {
		if err := a.reveal(r, evt); err != nil {
			failed, fault = failed+1, err
		}
	}
	if failed > 0 && a.ctx.Err() == nil {
		a.log(r.id).WithError(fault).Warnf("%d messages with one key could not be decrypted, and were not heard; ask who sent them to send them again", failed)
	}
}
