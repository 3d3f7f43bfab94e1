package adapter

import (
	"context"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// A room is what the adapter knows of a room that the bot is in, or was until a moment ago.
type room struct {
	id    id.RoomID
	queue []news // what its lane has not handled yet; owned by adapter.mu
	busy  bool   // its lane runs; owned by adapter.mu
	in    bool   // the bot is in the room, as of the last sync; owned by adapter.mu

	buried bool // another room replaces it, to which the bot is to follow; owned by adapter.mu

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

	timeline  []*event.Event
	limited   bool   // the timeline has a gap before it
	prevBatch string // from where to go back
	typing    []*event.Event
	left      bool

	joining *joining     // the bot joins, as it was invited, or the room replaces another
	key     id.SessionID // for which messages were set aside; it has come, or is given up
}

// synced takes over a sync response, on the goroutine that syncs. Events are
// copied, since the syncer goes on to write to them.
func (a *adapter) synced(_ context.Context, response *mautrix.RespSync, since string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	initial := since == "" && !a.primed // a sync that begins anew later has a gap at most
	resumed := since != "" && !a.primed
	a.primed = true
	a.bury(response.Rooms.Join)
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
		if r, ok := a.rooms[roomID]; ok && r.in { // removed and invited again between two syncs
			a.push(roomID, news{left: true})
		}
		a.pushInvitation(roomID, invited.State.Events)
	}
	a.wakeInvitations()
	for roomID, left := range response.Rooms.Leave {
		a.invitations.withdraw(roomID)
		a.push(roomID, news{initial: initial, left: true, timeline: own(roomID, left.Timeline.Events)})
	}
	return true
}

// own returns copies of events, with what a sync leaves out. Of what is said they hold no
// more than the text of it until it is heard: decoded, it may take twenty times the memory.
func own(roomID id.RoomID, events []*event.Event) []*event.Event {
	copies := make([]*event.Event, len(events))
	for i, evt := range events {
		copied := *evt
		copied.RoomID = roomID
		copied.Content.Parsed = nil
		copied.Type.Class = event.MessageEventType
		if evt.StateKey != nil {
			copied.Type.Class = event.StateEventType
		} else if copied.Content.VeryRaw != nil {
			copied.Content.Raw = nil
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
	r := a.room(roomID)
	if n.joining == nil {
		r.in = !n.left
	}
	if n.joining == nil && !n.left && !n.initial && !n.resumed && !n.spare() {
		a.wake(r)
		return // it brings nothing to the adapter, but perhaps that it was upgraded
	}
	r.queue = append(r.queue, n)
	if r.waiting() > maxWaiting {
		r.shorten()
		if a.session.IsOpen() { // or there is no log yet
			a.log(roomID).Warnf("More than %d events of the room wait for the bot, whose handlers take longer than people write; when it has time, what was said last is fetched", maxWaiting)
		}
	}
	a.wake(r)
}

// room returns what is known of a room. It is called with a.mu held.
func (a *adapter) room(roomID id.RoomID) *room {
	r, ok := a.rooms[roomID]
	if !ok {
		r = &room{id: roomID}
		a.rooms[roomID] = r
	}
	return r
}

// spare says whether a gap would bring again what the news are, but for who types, which
// is soon out of date.
func (n news) spare() bool {
	return !n.initial && !n.resumed && !n.left && (len(n.timeline)+len(n.typing) > 0 || n.limited)
}

// waiting returns how many events the lane has not handled yet; a large one counts as
// several. It is called with adapter.mu held.
func (r *room) waiting() (events int) {
	for _, n := range r.queue {
		events += max(1, len(n.timeline)+len(n.typing))
		for _, evt := range n.timeline {
			events += len(evt.Content.VeryRaw) / largeEvent
		}
	}
	return events
}

// shorten makes a gap of what waits, but for the newest events; the lane fetches
// what is missing as it does where a sync left something out. What no gap brings again
// stays: what was there at the start, and that the bot was removed. It is called with
// adapter.mu held.
func (r *room) shorten() {
	newest := -1
	for i, n := range r.queue {
		if n.spare() && (len(n.timeline) > 0 || n.limited || newest < 0) {
			newest = i
		}
	}
	var kept []news
	for i, n := range r.queue {
		if i == newest {
			n.limited = true
		}
		if i == newest || !n.spare() {
			kept = append(kept, n)
		}
	}
	r.queue = kept
}

// wake starts the room's lane if it is needed. It is called with a.mu held.
func (a *adapter) wake(r *room) {
	if a.running && !a.closed && !r.busy && r.ready() {
		r.busy = true
		a.lanes.Go(func() { a.drain(r) })
	}
}

// ready says whether there is something to do for the lane: what comes while the bot joins
// waits until it has joined. It is called with adapter.mu held.
func (r *room) ready() bool {
	if len(r.queue) == 0 {
		return r.buried
	}
	return r.queue[0].joining == nil || r.queue[0].joining.over
}

// drain is the room's lane: it handles what is queued, one after another.
func (a *adapter) drain(r *room) {
	for {
		a.mu.Lock()
		if !r.ready() || a.closed {
			r.busy = false
			a.drop(r)
			a.mu.Unlock()
			return
		}
		if len(r.queue) == 0 {
			r.buried = false
			a.mu.Unlock()
			a.follow(r)
			continue
		}
		next := r.queue[0]
		r.queue = r.queue[1:]
		a.mu.Unlock()
		a.handle(r, next)
	}
}

// drop lets go of a room that the bot has left, or never was in, unless there is more to
// do. The room's lane calls it when it ends, with a.mu held.
func (a *adapter) drop(r *room) {
	if len(r.queue) == 0 && !r.known {
		delete(a.rooms, r.id)
	}
}

// handle emits what is new in a room.
func (a *adapter) handle(r *room, n news) {
	defer session.Survive(a.log(r.id), "handling what sync brought of the room")
	switch {
	case n.key != "":
		a.bringBack(r, n.key)
	case n.joining != nil:
		if a.ctx.Err() == nil { // else it may have been cut short, and the invitation stands
			a.tell(n.joining)
		}
	case n.left:
		if !n.initial {
			a.removed(r, n.timeline)
		}
		r.forget()
	default:
		events := a.fresh(r, n)
		r.known = true
		for _, evt := range events {
			a.receive(r, evt)
		}
		a.typing(r, n)
	}
}

// forget begins anew, as the bot has left.
func (r *room) forget() {
	r.known, r.seen, r.typing, r.names, r.members = false, recent[id.EventID]{}, nil, nil, nil
	r.aside.forget()
}
