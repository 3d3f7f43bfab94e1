package adapter

import (
	"fmt"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"

	"github.com/go-joe/matrix-memory/internal/session"
)

// heard are the types of the events that the adapter follows in a timeline.
var heard = []event.Type{
	event.EventMessage, event.EventEncrypted, event.EventReaction, event.EventRedaction,
	event.StateMember, event.StateEncryption, event.StateTombstone,
}

// widen lets a filter through what the adapter needs.
func widen(filter *mautrix.RoomFilter) {
	filter.Timeline.Types = append(filter.Timeline.Types, heard...)
	filter.Timeline.Limit = timelineLimit
	filter.State.Types = append(filter.State.Types, event.StateTombstone) // which may be from before the start
	filter.Ephemeral = &mautrix.FilterPart{Types: []event.Type{event.EphemeralEventTyping}}
}

// passes says whether a filter of the program's own lets through what the adapter needs.
func passes(filter *mautrix.Filter) error {
	if filter.Room == nil {
		return nil
	}
	if err := lets(filter.Room.Timeline, "timeline", heard...); err != nil {
		return err
	}
	if err := lets(filter.Room.State, "state", event.StateTombstone); err != nil {
		return err
	}
	return lets(filter.Room.Ephemeral, "ephemeral", event.EphemeralEventTyping)
}

// lets says whether a part of a filter lets events of these types through.
func lets(part *mautrix.FilterPart, name string, types ...event.Type) error {
	for _, t := range types {
		if !session.Passes(part, t) {
			return fmt.Errorf("the filter of the client's syncer keeps %s events from the adapter: let them through in %s", t.Type, name)
		}
	}
	return nil
}
