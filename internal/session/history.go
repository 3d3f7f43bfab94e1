package session

import (
	"context"
	"slices"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// historyPage is how many events one page of a room's history has, at most.
const historyPage = 100

// EarlierEvents returns one page of a room's earlier state events of Options.Recent,
// newest first, and from where to go on; next is "" at the end. A page may be empty
// though there is a next one.
func (s *Session) EarlierEvents(ctx context.Context, room id.RoomID, from string) (events []*event.Event, next string, err error) {
	filter := &mautrix.FilterPart{Types: []event.Type{s.Recent}}
	if s.cuts.Load() {
		filter = nil
	}
	page, err := s.page(ctx, room, from, filter, historyPage)
	if err == nil && filter != nil && page.End == "" {
		// Dendrite cuts a page before it filters it, and takes one of which nothing is
		// left for the last.
		page, err = s.page(ctx, room, from, nil, historyPage)
		if err == nil && page.End != "" {
			s.cuts.Store(true)
		}
	}
	if err != nil {
		return nil, "", err
	}
	next = page.End
	if next == from {
		next = ""
	}
	events = slices.DeleteFunc(page.Chunk, func(evt *event.Event) bool {
		return evt == nil || evt.StateKey == nil || evt.Type.Type != s.Recent.Type
	})
	s.complete(room, events)
	return events, next, nil
}

// page reads one page of a room's history, back from a token or, if that is "", from its
// latest event.
func (s *Session) page(ctx context.Context, room id.RoomID, from string, filter *mautrix.FilterPart, limit int) (page *mautrix.RespMessages, err error) {
	_, err = s.Try(ctx, func(ctx context.Context) (err error) {
		page, err = s.client.Messages(ctx, room, from, "", mautrix.DirectionBackward, filter, limit)
		if err == nil && (page == nil || page.Chunk == nil) {
			err = Missing("chunk")
		}
		return err
	})
	return page, err
}
