package adapter

import (
	"fmt"
	"slices"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
)

// heard are the types of the events that the adapter follows in a timeline.
var heard = []event.Type{
	event.EventMessage, event.EventEncrypted, event.EventReaction, event.EventRedaction,
	event.StateMember, event.StateEncryption,
}

// widen lets a filter through what the adapter needs.
func widen(filter *mautrix.RoomFilter) {
	filter.Timeline.Types = append(filter.Timeline.Types, heard...)
	filter.Timeline.Limit = timelineLimit
	filter.Ephemeral = &mautrix.FilterPart{Types: []event.Type{event.EphemeralEventTyping}}
}

// passes says whether a filter of the program's own lets messages through.
func passes(filter *mautrix.Filter) error {
	if filter.Room == nil || filter.Room.Timeline == nil {
		return nil
	}
	part := filter.Room.Timeline
	for _, t := range heard {
		named := func(have event.Type) bool { return have.Type == t.Type || have.Type == "*" }
		if part.Types != nil && !slices.ContainsFunc(part.Types, named) || slices.ContainsFunc(part.NotTypes, named) {
			return fmt.Errorf("the filter of the client's syncer keeps %s events from the adapter: let them through in the timeline", t.Type)
		}
	}
	return nil
}
