package adapter

import (
	"context"
	"slices"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// How much is followed of a room; variables for the tests.
var (
	timelineLimit = 50  // events that one sync brings; the rest is fetched
	maxMissed     = 500 // events that are fetched when a sync left some out
	page          = 100 // that many at a time
)

// fresh returns the events that the bot has not heard yet, oldest first: what
// the timeline brings, and what it left out, but nothing from before the bot
// started or joined.
func (a *adapter) fresh(r *room, n news) []*event.Event {
	events := n.timeline
	switch {
	case r.known || !n.initial && !n.resumed:
		if n.limited && !slices.ContainsFunc(events, a.horizon(r)) {
			events = append(a.missed(r, n.prevBatch), events...)
		}
	case n.initial:
		r.seen.add(events)
		return nil
	default:
		events = slices.DeleteFunc(events, func(evt *event.Event) bool { return evt.Timestamp < a.started.UnixMilli() })
	}
	if i := lastIndex(events, a.joined); i >= 0 {
		r.seen.add(events[:i])
		events = events[i:]
	}
	events = slices.DeleteFunc(slices.Clone(events), func(evt *event.Event) bool { return r.seen.has(evt.ID) })
	r.seen.add(events)
	return events
}

// horizon returns what says whether an event is one that the bot needs nothing
// older than.
func (a *adapter) horizon(r *room) func(*event.Event) bool {
	return func(evt *event.Event) bool { return r.seen.has(evt.ID) || a.joined(evt) }
}

// joined says whether the event is the bot's own joining of the room.
func (a *adapter) joined(evt *event.Event) bool {
	return evt.Type == event.StateMember && evt.GetStateKey() == a.client.UserID.String() && change(evt) == hasJoined
}

// missed fetches what a sync left out, oldest first, going back from a token.
func (a *adapter) missed(r *room, from string) []*event.Event {
	horizon := a.horizon(r)
	filter := &mautrix.FilterPart{Types: heard, LazyLoadMembers: true}
	var events []*event.Event     // newest first
	r.members, r.names = nil, nil // of those who came and went, some may be skipped
	for len(events) < maxMissed && from != "" {
		var response *mautrix.RespMessages
		if _, err := a.session.Try(a.ctx, func(ctx context.Context) (err error) {
			response, err = a.client.Messages(ctx, r.id, from, "", mautrix.DirectionBackward, filter, page)
			return err
		}); err != nil {
			if a.ctx.Err() == nil {
				a.log(r.id).WithError(err).Warn("What was said before this sync could not be fetched; messages were skipped")
			}
			break
		}
		older := own(r.id, response.Chunk)
		if i := slices.IndexFunc(older, horizon); i >= 0 {
			if a.joined(older[i]) {
				i++ // so that it is known where the bot joined
			}
			events = append(events, older[:i]...)
			slices.Reverse(events)
			return events
		}
		events = append(events, older...)
		if response.End == from {
			break
		}
		from = response.End
	}
	if len(events) >= maxMissed {
		events = events[:maxMissed]
		a.log(r.id).Warnf("More was said than the %d events that are fetched; older messages were skipped", maxMissed)
	}
	slices.Reverse(events)
	return events
}

func lastIndex(events []*event.Event, is func(*event.Event) bool) int {
	for i := len(events) - 1; i >= 0; i-- {
		if is(events[i]) {
			return i
		}
	}
	return -1
}

// Recent holds the IDs of the events that were last seen in a room.
type recent struct {
	ids   map[id.EventID]bool
	order []id.EventID
}

// remembered is how many IDs are held. A limited timeline that has none of them
// comes after a gap.
const remembered = 200

func (s *recent) has(eventID id.EventID) bool { return s.ids[eventID] }

func (s *recent) add(events []*event.Event) {
	if s.ids == nil {
		s.ids = make(map[id.EventID]bool)
	}
	for _, evt := range events {
		if evt.ID == "" || s.ids[evt.ID] {
			continue
		}
		s.ids[evt.ID] = true
		s.order = append(s.order, evt.ID)
		if len(s.order) > remembered {
			delete(s.ids, s.order[0])
			s.order = s.order[1:]
		}
	}
}
