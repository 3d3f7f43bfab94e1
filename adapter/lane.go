package adapter

import (
	"context"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// A room is what the adapter knows of a room that the bot is in or invited to.
type room struct {
	id    id.RoomID
	queue []news // what its lane has not handled yet; owned by adapter.mu
	busy  bool   // its lane runs; owned by adapter.mu

	// The rest is owned by the lane.
	known   bool // its timeline was followed before
	seen    recent[id.EventID]
	typing  map[id.UserID]bool
	names   map[id.UserID]string // display names, as far as they were asked for
	members map[id.UserID]bool   // who is in the room; nil: not known
	unread  bool                 // it was said that the bot can't read here
	aside   aside
}

// News is what one sync brought of a room.
type news struct {
	initial bool // the sync brought what was there before
	resumed bool // the program's own client started from a token that it kept

	invite    []*event.Event
	timeline  []*event.Event
	limited   bool   // the timeline has a gap before it
	prevBatch string // from where to go back
	typing    []*event.Event
	left      bool

	key id.SessionID // for which messages were set aside; it has come, or is given up
}

// synced takes over a sync response, on the goroutine that syncs. Events are
// copied, since the syncer goes on to write to them.
func (a *adapter) synced(_ context.Context, response *mautrix.RespSync, since string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	initial := since == "" && !a.primed // a sync that begins anew later has a gap at most
	resumed := since != "" && !a.primed
	a.primed = true
	for roomID, joined := range response.Rooms.Join {
		a.encrypted.note(roomID, joined)
		a.push(roomID, news{
			initial:   initial,
			resumed:   resumed,
			timeline:  own(roomID, joined.Timeline.Events),
			limited:   joined.Timeline.Limited,
			prevBatch: joined.Timeline.PrevBatch,
			typing:    own(roomID, joined.Ephemeral.Events),
		})
	}
	for roomID, invited := range response.Rooms.Invite {
		a.push(roomID, news{invite: own(roomID, invited.State.Events)})
	}
	for roomID, left := range response.Rooms.Leave {
		a.push(roomID, news{initial: initial, left: true, timeline: own(roomID, left.Timeline.Events)})
	}
	return true
}

// own returns copies of events, with what a sync leaves out.
func own(roomID id.RoomID, events []*event.Event) []*event.Event {
	copies := make([]*event.Event, len(events))
	for i, evt := range events {
		copied := *evt
		copied.RoomID = roomID
		copied.Content.Parsed = nil
		copied.Type.Class = event.MessageEventType
		if evt.StateKey != nil {
			copied.Type.Class = event.StateEventType
		}
		copies[i] = &copied
	}
	return copies
}

// push hands news to the room's lane. It is called with a.mu held.
func (a *adapter) push(roomID id.RoomID, n news) {
	if a.closed {
		return
	}
	r, ok := a.rooms[roomID]
	if !ok {
		r = &room{id: roomID}
		a.rooms[roomID] = r
	}
	r.queue = append(r.queue, n)
	a.wake(r)
}

// wake starts the room's lane if it is needed. It is called with a.mu held.
func (a *adapter) wake(r *room) {
	if a.running && !a.closed && !r.busy && len(r.queue) > 0 {
		r.busy = true
		a.lanes.Go(func() { a.drain(r) })
	}
}

// drain is the room's lane: it handles what is queued, one after another.
func (a *adapter) drain(r *room) {
	for {
		a.mu.Lock()
		if len(r.queue) == 0 || a.closed {
			r.busy = false
			a.mu.Unlock()
			return
		}
		next := r.queue[0]
		r.queue = r.queue[1:]
		a.mu.Unlock()
		a.handle(r, next)
	}
}

// handle emits what is new in a room.
func (a *adapter) handle(r *room, n news) {
	defer session.Survive(a.log(r.id), "handling what sync brought of the room")
	switch {
	case n.key != "":
		a.bringBack(r, n.key)
	case n.invite != nil:
		a.invited(r, n.invite)
	case n.left:
		if !n.initial {
			a.removed(r, n.timeline)
		}
		r.forget()
	default:
		for _, evt := range a.fresh(r, n) {
			a.receive(r, evt)
		}
		r.known = true
		a.typing(r, n)
	}
}

// forget begins anew, as the bot has left.
func (r *room) forget() {
	r.known, r.seen, r.typing, r.names, r.members = false, recent[id.EventID]{}, nil, nil, nil
	r.aside.forget()
}
