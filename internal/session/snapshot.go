package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// A Snapshot is what the homeserver says of a room's memory. Callers share it.
type Snapshot struct {
	State    []*event.Event    // of Options.Types: what stands, but for events that are in Timeline
	Timeline []*event.Event    // the latest events of Options.Recent, about ten, oldest first
	Limited  bool              // the room may have earlier events of Options.Recent: see EarlierEvents
	Torn     map[string]string // of Options.Recent, what stands under a state key where that is not the last of Timeline: its ID; "": nothing
	Earlier  string            // from where EarlierEvents goes on. It may bring events of Timeline once more
}

// recentEvents is how many events before the room's latest a snapshot looks at.
const recentEvents = 10

// Snapshot returns what the homeserver says of a room's memory. It costs what the memory
// holds, whatever else is in the room and whichever rooms the bot is in besides: neither
// Synapse nor Dendrite saves work where a filter names the rooms of a sync.
func (s *Session) Snapshot(ctx context.Context, room id.RoomID) (*Snapshot, error) {
	if err := s.Reach(ctx); err != nil { // which what is read for all does not wait for
		return nil, err
	}
	pause := backOff(50*time.Millisecond, time.Second)
	for over := time.After(s.Timeout); ; {
		snapshot, err := s.reads.ask(ctx, room)
		if !errors.Is(err, errNoEvents) {
			return snapshot, err
		}
		select {
		case <-time.After(pause.NextBackOff()):
		case <-over:
			return nil, late{fmt.Errorf("%w, after %s", err, s.Timeout)}
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, ctx.Err())
		case <-s.life.Done():
			return nil, ErrClosed
		}
	}
}

// errNoEvents says that a room is not there to be read yet: what Dendrite lets clients
// read lags behind a join, and after it was killed may never come.
var errNoEvents = errors.New("the bot is in the room, but the homeserver does not give any of its events yet")

// snapshot reads a snapshot.
func (s *Session) snapshot(room id.RoomID) (*Snapshot, error) {
	ctx := context.Background() // each request is bounded
	if err := s.Belongs(ctx, room); err != nil {
		return nil, err
	}
	latest, err := s.latest(ctx, room)
	if err != nil {
		return nil, err
	}
	newest := latest[0].ID
	around, err := s.around(ctx, room, newest, 2*recentEvents)
	if err != nil {
		return nil, err
	}
	var beside []*event.Event
	if !s.knowDendrite(around.Start) {
		beside = s.beside(latest, around)
		around.EventsBefore = slices.Concat(beside, around.EventsBefore)
	}
	snapshot := &Snapshot{Timeline: s.timeline(around), Earlier: around.Start}
	// The homeserver may have cut the events before it filtered them, so only that the
	// room's first one is there shows that there are no others.
	snapshot.Limited = around.Start != "" && !slices.ContainsFunc(around.EventsBefore, func(evt *event.Event) bool {
		return evt != nil && evt.Type.Type == event.StateCreate.Type
	})
	state := around.State
	if s.knowDendrite(around.Start) {
		if state, err = s.dendriteState(ctx, room, newest, around, snapshot.Timeline); err != nil {
			return nil, err
		}
	}
	slices.Reverse(beside)
	snapshot.Torn = s.torn(state, snapshot.Timeline)
	for _, evt := range slices.Concat(state, tombstones(around), beside) { // of access, the last one counts
		if s.follows(evt) && !contains(snapshot.Timeline, evt.ID) {
			snapshot.State = append(snapshot.State, evt)
		}
	}
	s.complete(room, snapshot.Timeline)
	s.complete(room, snapshot.State)
	return snapshot, nil
}

// tombstones returns the tombstones among the events around one. The state with the latest may be without one that
// was sent at the same moment, and no sync brings that any more.
func tombstones(around *mautrix.RespContext) []*event.Event {
	return slices.DeleteFunc(inOrder(around), func(evt *event.Event) bool {
		return evt == nil || evt.StateKey == nil || evt.Type.Type != event.StateTombstone.Type
	})
}

// inOrder returns an event and those around it, oldest first.
func inOrder(around *mautrix.RespContext) []*event.Event {
	before := slices.Clone(around.EventsBefore)
	slices.Reverse(before)
	return slices.Concat(before, []*event.Event{around.Event}, around.EventsAfter)
}

// torn returns what stands under state keys where that is not the last of the timeline; "": nothing does.
func (s *Session) torn(state, timeline []*event.Event) map[string]string {
	last, torn := make(map[string]id.EventID), make(map[string]string)
	for _, evt := range timeline {
		last[evt.GetStateKey()], torn[evt.GetStateKey()] = evt.ID, ""
	}
	for _, evt := range state {
		stateKey := evt.GetStateKey()
		switch {
		case !s.follows(evt) || evt.Type.Type != s.Recent.Type:
		case last[stateKey] == evt.ID:
			delete(torn, stateKey)
		case last[stateKey] != "":
			torn[stateKey] = evt.ID.String()
		}
	}
	return torn
}

// Belongs says that the bot is not in a room, if so, and why, as far as the homeserver says. Some rooms can be
// read from outside.
func (s *Session) Belongs(ctx context.Context, room id.RoomID) error {
	const advice = "%w: the bot is not in it; invite it and let it join"
	var member event.MemberEventContent
	_, err := s.Try(ctx, func(ctx context.Context) error {
		err := s.client.StateEvent(ctx, room, event.StateMember, s.client.UserID.String(), &member)
		if err == nil && member.Membership == "" {
			err = Missing("membership")
		}
		return err
	})
	switch {
	case IsStatus(err, http.StatusForbidden), IsStatus(err, http.StatusNotFound):
		return fmt.Errorf(advice+": %w", ErrUnknownRoom, err)
	case err != nil:
		return fmt.Errorf("asking whether the bot is in the room: %w", err)
	case member.Membership != event.MembershipJoin && member.Reason != "":
		return fmt.Errorf(advice+" (membership %s, for the reason %q)", ErrUnknownRoom, member.Membership, member.Reason)
	case member.Membership != event.MembershipJoin:
		return fmt.Errorf(advice, ErrUnknownRoom)
	}
	return nil
}

// latest returns the room's latest events that the bot may see, at least one, the latest first: those that the
// session follows, as one may be beside the latest, or one of any kind.
func (s *Session) latest(ctx context.Context, room id.RoomID) ([]*event.Event, error) {
	type look struct {
		filter *mautrix.FilterPart
		limit  int
	}
	looks := []look{{nil, 1}, {nil, 100}} // the last ones may be of users that the bot ignores
	if !s.dendrite.Load() {
		looks = slices.Insert(looks, 0, look{&mautrix.FilterPart{Types: s.Types}, recentEvents})
	}
	for _, l := range looks {
		page, err := s.page(ctx, room, "", l.filter, l.limit)
		if err != nil {
			return nil, fmt.Errorf("looking for the room's latest event: %w", err)
		}
		if s.knowDendrite(page.Start) && l.filter != nil {
			continue // it cuts pages before it filters them
		}
		switch events := slices.DeleteFunc(page.Chunk, func(evt *event.Event) bool { return evt == nil }); {
		case len(events) == 0:
		case l.filter == nil:
			return events[:1], nil // others may be older than the events around it
		default:
			return events, nil
		}
	}
	return nil, errNoEvents
}

// beside returns those of the latest events that the session follows and that are not among
// the events around the newest, the latest first. Of events that were sent at the same moment Synapse counts
// none as before another, and leaves the others out there, and out of the state with that one.
func (s *Session) beside(latest []*event.Event, around *mautrix.RespContext) []*event.Event {
	return slices.DeleteFunc(slices.Clone(latest[1:]), func(evt *event.Event) bool {
		return !s.follows(evt) || contains(around.EventsBefore, evt.ID) || contains(around.EventsAfter, evt.ID)
	})
}

// around reads the events around one, and the state after them: of both what the session
// follows. https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3roomsroomidcontexteventid
func (s *Session) around(ctx context.Context, room id.RoomID, eventID id.EventID, limit int) (around *mautrix.RespContext, err error) {
	_, err = s.Try(ctx, func(ctx context.Context) (err error) {
		// Dendrite takes no limit above 100 but from the filter.
		around, err = s.client.Context(ctx, room, eventID, &mautrix.FilterPart{Types: s.Types, Limit: limit}, limit)
		if err == nil && (around == nil || around.Event == nil || around.Event.ID != eventID) {
			err = Missing("event")
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the room's state: %w", err)
	}
	return around, nil
}

// timeline returns the memory's latest events, oldest first.
func (s *Session) timeline(around *mautrix.RespContext) []*event.Event {
	return slices.DeleteFunc(inOrder(around), func(evt *event.Event) bool {
		return evt == nil || evt.StateKey == nil || evt.Type.Type != s.Recent.Type
	})
}

// follows says whether an event is a state event that the session is to follow.
func (s *Session) follows(evt *event.Event) bool {
	return evt != nil && evt.StateKey != nil &&
		slices.ContainsFunc(s.Types, func(t event.Type) bool { return t.Type == evt.Type.Type })
}

// complete adds to a room's state events what some answers leave out, and takes from them
// what is wrong.
func (s *Session) complete(room id.RoomID, events []*event.Event) {
	for _, evt := range events {
		evt.RoomID, evt.Type.Class = room, event.StateEventType
		if s.dendrite.Load() {
			mend(evt)
			evt.Unsigned.PrevContent = nil
		}
	}
}

func contains(events []*event.Event, eventID id.EventID) bool {
	return slices.ContainsFunc(events, func(evt *event.Event) bool { return evt != nil && evt.ID == eventID })
}
