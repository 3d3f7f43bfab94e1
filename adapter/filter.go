package adapter

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

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

// passes says whether a filter of the program's own lets through what the adapter needs.
func passes(filter *mautrix.Filter) error {
	if filter.Room == nil {
		return nil
	}
	if err := lets(filter.Room.Timeline, "timeline", heard...); err != nil {
		return err
	}
	return lets(filter.Room.Ephemeral, "ephemeral", event.EphemeralEventTyping)
}

// lets says whether a part of a filter lets events of these types through.
func lets(part *mautrix.FilterPart, name string, types ...event.Type) error {
	if part == nil {
		return nil
	}
	for _, t := range types {
		named := func(pattern event.Type) bool { return matches(pattern.Type, t.Type) }
		if len(part.Types) > 0 && !slices.ContainsFunc(part.Types, named) || slices.ContainsFunc(part.NotTypes, named) {
			return fmt.Errorf("the filter of the client's syncer keeps %s events from the adapter: let them through in %s", t.Type, name)
		}
	}
	return nil
}

// matches says whether a type is meant by a pattern of a filter, where "*" stands
// for any characters (Matrix spec, "Filtering").
func matches(pattern, eventType string) bool {
	parts := strings.Split(regexp.QuoteMeta(pattern), `\*`)
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(eventType)
}
