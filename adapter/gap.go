package adapter

import (
	"context"
	"slices"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"

	"github.com/go-joe/matrix-memory/internal/session"
)

// How much is followed of a room; variables for the tests.
var (
	timelineLimit = 50   // events that one sync brings; the rest is fetched
	maxWaiting    = 500  // events that wait until the bot has time; the rest is fetched when it has
	largeEvent    = 8192 // bytes for which an event that waits counts as one more
	maxMissed     = 500  // events that are fetched when a sync left some out
	page          = 100  // that many at a time, with those that the adapter does not follow
	maxPages      = 50   // and that often, for a memory may have been written much meanwhile
)

// fresh returns the events that the bot has not heard yet, oldest first: what
// the timeline brings, and what it left out, but nothing from before the bot
// started or joined.
func (a *adapter) fresh(r *room, n news) []*event.Event {
	events := followed(n.timeline)
	if n.initial && !r.known {
		for _, evt := range events {
			r.seen.keep(evt.ID)
		}
		return nil
	}
	if n.limited && !slices.ContainsFunc(events, a.horizon(r)) {
		events = append(a.missed(r, n.prevBatch), events...)
	}
	if i := lastIndex(events, a.joined); i >= 0 {
		r.see(events[:i])
		events = events[i:]
	}
	if n.resumed && !r.known {
		for _, evt := range events {
			if a.early(evt) {
				r.seen.add(evt.ID)
			}
		}
	}
	events = slices.DeleteFunc(events, func(evt *event.Event) bool { return r.seen.has(evt.ID) })
	r.see(events)
	return events
}

func (r *room) see(events []*event.Event) {
	for _, evt := range events {
		r.seen.add(evt.ID)
	}
}

// followed returns those of the events that the adapter follows. The others, as
// the memory's own, may be many, and must not push what was seen out of mind.
func followed(events []*event.Event) []*event.Event {
	return slices.DeleteFunc(slices.Clone(events), func(evt *event.Event) bool { return !slices.Contains(heard, evt.Type) })
}

// horizon returns what says whether an event is one that the bot needs nothing
// older than. Where it has seen no event yet, the time has to say it, but not that of
// state events: some homeservers put older ones after newer messages.
func (a *adapter) horizon(r *room) func(*event.Event) bool {
	unseen := r.seen.empty()
	return func(evt *event.Event) bool {
		return r.seen.has(evt.ID) || a.joined(evt) || unseen && evt.StateKey == nil && a.early(evt)
	}
}

// joined says whether the event is the bot's own joining of the room.
func (a *adapter) joined(evt *event.Event) bool {
	return evt.Type == event.StateMember && evt.GetStateKey() == a.client.UserID.String() && change(evt) == hasJoined
}

// early says whether an event is from before the start, by the homeserver's clock.
func (a *adapter) early(evt *event.Event) bool { return evt.Timestamp < a.started.UnixMilli() }

// missed fetches what a sync left out, oldest first, going back from a token.
// It is not filtered by the homeserver: some filter a page after they have cut
// it, and end with the first of which nothing is left.
func (a *adapter) missed(r *room, from string) []*event.Event {
	horizon := a.horizon(r)
	var events []*event.Event     // newest first
	r.members, r.names = nil, nil // of those who came and went, some may be skipped
	for pages := 0; from != ""; pages++ {
		if len(events) >= maxMissed || pages == maxPages {
			events = events[:min(len(events), maxMissed)]
			a.log(r.id).Warnf("More has happened than the %d messages, or %d events of any kind, that are fetched; older messages were skipped", maxMissed, maxPages*page)
			break
		}
		var response *mautrix.RespMessages
		if _, err := a.session.Try(a.ctx, func(ctx context.Context) (err error) {
			response, err = a.client.Messages(ctx, r.id, from, "", mautrix.DirectionBackward, nil, page)
			if err == nil && response == nil {
				err = session.Missing("chunk")
			}
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
			events = append(events, followed(older[:i])...)
			break
		}
		events = append(events, followed(older)...)
		if response.End == from {
			break
		}
		from = response.End
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
