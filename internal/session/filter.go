package session

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
)

// nothing is the types of a filter that lets nothing through. An empty list would
// do, but mautrix leaves it out of the request; and Dendrite knows no "*" in not_types.
var nothing = []event.Type{{Type: "none"}}

// NoEvents returns the part of a filter that lets nothing through.
func NoEvents() *mautrix.FilterPart { return &mautrix.FilterPart{Types: nothing} }

// filters returns what to ask sync for: when it begins what the handlers of the
// client's syncer want, and from then on what the session needs besides. What rooms
// hold when it begins is not asked for: [Session.Snapshot] reads it for the rooms that
// are used.
func (s *Session) filters() (first mautrix.Filter, next string, err error) {
	syncer, ok := s.client.Syncer.(*mautrix.DefaultSyncer)
	if !ok || syncer.FilterJSON == nil || syncer.FilterJSON.Room == nil {
		return first, "", fmt.Errorf("the client's syncer was replaced by a %T; register handlers at the one it has", s.client.Syncer)
	}
	first = *syncer.FilterJSON
	wide := first
	first.Room, wide.Room = new(*first.Room), new(*wide.Room)
	first.Room.State, first.Room.Timeline = none(first.Room.State), none(first.Room.Timeline)
	wide.Room.State, wide.Room.Timeline = s.widen(wide.Room.State), s.widen(wide.Room.Timeline)
	next, err = text(wide)
	return first, next, err
}

// text returns a filter as it is sent: in place of a filter ID.
func text(filter mautrix.Filter) (string, error) {
	text, err := json.Marshal(filter)
	return string(text), err
}

// Unlike returns a filter that means the same and was never sent before. It is for
// syncs without a token: Synapse answers one that equals another of the last two
// minutes (its sync_response_cache_duration) with the old answer.
func Unlike(filter mautrix.Filter) mautrix.Filter {
	var part mautrix.FilterPart
	if filter.AccountData != nil {
		part = *filter.AccountData
	}
	part.NotTypes = append(slices.Clone(part.NotTypes), event.Type{Type: "none." + rand.Text()})
	filter.AccountData = &part
	return filter
}

// none makes a part of a filter that names no types let nothing through; without
// that it would let everything through.
func none(part *mautrix.FilterPart) *mautrix.FilterPart {
	closed := *part
	if len(closed.Types) == 0 {
		closed.Types = nothing
	}
	return &closed
}

// widen adds the types that the session needs.
func (s *Session) widen(part *mautrix.FilterPart) *mautrix.FilterPart {
	wide := *part
	wide.Types = slices.Clone(part.Types)
	// Dendrite tells of leaving a room only if the filter lets memberships through.
	for _, t := range append(slices.Clone(s.Types), event.EventRedaction, event.StateMember) {
		if !slices.ContainsFunc(wide.Types, func(have event.Type) bool { return have.Type == t.Type }) {
			wide.Types = append(wide.Types, t)
		}
	}
	return &wide
}

// passes says whether a filter of the program's own lets the types through.
func passes(filter *mautrix.Filter, types []event.Type) error {
	if filter.Room == nil {
		return nil
	}
	for _, part := range []*mautrix.FilterPart{filter.Room.State, filter.Room.Timeline} {
		for _, t := range types {
			if !Passes(part, t) {
				return fmt.Errorf("the filter of the client's syncer keeps %s events from the memory: let them through in state and timeline", t.Type)
			}
		}
	}
	return nil
}

// Passes says whether a part of a filter lets a type of event through:
// https://spec.matrix.org/v1.16/client-server-api/#filtering has * as its only wildcard.
func Passes(part *mautrix.FilterPart, t event.Type) bool {
	if part == nil {
		return true
	}
	matches := func(pattern event.Type) bool {
		parts := strings.Split(regexp.QuoteMeta(pattern.Type), `\*`)
		return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(t.Type)
	}
	return (len(part.Types) == 0 || slices.ContainsFunc(part.Types, matches)) && !slices.ContainsFunc(part.NotTypes, matches)
}
