package session

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// Here is what has to be put right of what Dendrite (0.13.8) says of state.

// dendriteToken matches Dendrite's tokens for a place in a room's history.
var dendriteToken = regexp.MustCompile(`^t\d+_\d+$`)

// knowDendrite says whether the homeserver is a Dendrite, by a token that it gave.
func (s *Session) knowDendrite(token string) bool {
	if dendriteToken.MatchString(token) {
		s.dendrite.Store(true)
	}
	return s.dendrite.Load()
}

// mend takes from a state event what Dendrite says wrongly of the one that it replaced:
// under any state key but a user's it is the one of the same type with the state key "".
// (Besides, the content of the replaced event is there though that was redacted since.)
func mend(evt *event.Event) {
	if silent(evt.GetStateKey()) {
		evt.Unsigned.ReplacesState, evt.Unsigned.PrevContent, evt.Unsigned.PrevSender = "", nil, ""
	}
}

func silent(stateKey string) bool {
	_, _, err := id.UserID(stateKey).Parse()
	return stateKey != "" && err != nil
}

// Silent says whether the homeserver never says what an event under a state key replaced.
func (s *Session) Silent(stateKey string) bool { return s.dendrite.Load() && silent(stateKey) }

// nobodysSecret are the types of state events whose content need not be checked.
var nobodysSecret = []string{event.StateCreate.Type, event.StatePowerLevels.Type, event.StateEncryption.Type}

const (
	moreState  = 100 // state events that are asked for where Dendrite has left some out
	maxChecked = 50  // documents that are checked one by one
)

// dendriteState returns the state that Dendrite gives with the events around one, put
// right: it is cut as the events are, to half the limit; and events that were redacted
// have their content still. Only their copies in the timeline have not, and what is read
// of a state event by its type and key, or of the whole room.
func (s *Session) dendriteState(ctx context.Context, room id.RoomID, newest id.EventID, around *mautrix.RespContext, timeline []*event.Event) ([]*event.Event, error) {
	state, limit := around.State, recentEvents
	if len(state) == limit {
		limit = moreState
		more, err := s.around(ctx, room, newest, 2*limit)
		if err != nil {
			return nil, err
		}
		state = more.State
	}
	var unsure []*event.Event
	for _, evt := range state {
		if s.follows(evt) && !slices.Contains(nobodysSecret, evt.Type.Type) && (s.PerKey || !contains(timeline, evt.ID)) {
			unsure = append(unsure, evt)
		}
	}
	if len(state) == limit || len(unsure) > maxChecked {
		return s.wholeState(ctx, room)
	}
	group := errgroup.Group{}
	group.SetLimit(maxReads)
	var lags atomic.Bool
	for _, evt := range unsure {
		group.Go(func() error {
			stands, err := s.check(ctx, room, evt)
			if !stands {
				lags.Store(true)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil || !lags.Load() {
		return state, err
	}
	return s.wholeState(ctx, room)
}

// check takes the content away from a state event that was redacted. It reports whether the
// event stands in the room: after Dendrite was killed, its sync API lags behind for half a
// minute.
func (s *Session) check(ctx context.Context, room id.RoomID, evt *event.Event) (stands bool, err error) {
	content, _, err := s.Standing(ctx, room, evt.Type, evt.GetStateKey())
	if err != nil {
		return false, fmt.Errorf("reading the room's state: %w", err)
	}
	if string(content) == "{}" {
		evt.Content = event.Content{VeryRaw: json.RawMessage("{}")}
		evt.Unsigned.RedactedBecause = &event.Event{}
		return true, nil
	}
	return string(content) == string(evt.Content.VeryRaw), nil
}

// wholeState reads a room's whole state.
func (s *Session) wholeState(ctx context.Context, room id.RoomID) (state []*event.Event, err error) {
	_, err = s.Try(ctx, func(ctx context.Context) error {
		byType, err := s.client.State(ctx, room)
		state = nil
		for _, byKey := range byType {
			for _, evt := range byKey {
				state = append(state, evt)
			}
		}
		return err
	})
	return state, err
}
