package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// pollTimeout is how long the homeserver holds a sync back while there is no news.
const pollTimeout = 30 * time.Second

// nothing is the types of a filter that lets nothing through. An empty list would
// do, but mautrix leaves it out of the request; and Dendrite knows no "*" in not_types.
var nothing = []event.Type{{Type: "none"}}

// NoEvents returns the part of a filter that lets nothing through.
func NoEvents() *mautrix.FilterPart { return &mautrix.FilterPart{Types: nothing} }

// An Update is what sync brought of one room.
type Update struct {
	Room id.RoomID
	Left bool // the bot is no longer in the room
	Gap  bool // sync has left out events before these
	// Resumed says that sync had failed before. A homeserver that was killed can
	// bring older state after newer ones then.
	Resumed bool
	State   []*event.Event // what changed, oldest first
	// Redacted are the events that lost their content.
	Redacted []id.EventID
}

// filters returns what to ask sync for, as JSON: the first time what the
// handlers of the client's syncer want, and from then on what the session needs
// besides. The state of rooms is not asked for: it is read room by room, which is
// quicker, and right even where sync lags behind the writes.
func (s *Session) filters() (first, next string, err error) {
	syncer, ok := s.client.Syncer.(*mautrix.DefaultSyncer)
	if !ok || syncer.FilterJSON == nil || syncer.FilterJSON.Room == nil {
		return "", "", fmt.Errorf("the client's syncer was replaced by a %T; register handlers at the one it has", s.client.Syncer)
	}
	plain := *syncer.FilterJSON
	ours := *syncer.FilterJSON
	plain.Room, ours.Room = new(*plain.Room), new(*ours.Room)
	plain.Room.State, plain.Room.Timeline = none(plain.Room.State), none(plain.Room.Timeline)
	ours.Room.State, ours.Room.Timeline = s.widen(ours.Room.State), s.widen(ours.Room.Timeline)
	one, err := json.Marshal(plain)
	if err != nil {
		return "", "", err
	}
	other, err := json.Marshal(ours)
	return string(one), string(other), err
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

// startSync makes the first sync and starts the loop.
func (s *Session) startSync(ctx context.Context) error {
	first, next, err := s.filters()
	if err != nil {
		return err
	}
	var response *mautrix.RespSync
	if _, err := s.Try(ctx, func(ctx context.Context) (err error) {
		response, err = s.client.FullSyncRequest(ctx, mautrix.ReqSync{FilterID: first, SetPresence: s.client.SyncPresence})
		return err
	}); err != nil {
		return fmt.Errorf("first sync: %w", err)
	}
	s.handle(s.life, response, "", false)
	s.loop.Go(func() { s.sync(s.life, next, response.NextBatch) })
	return nil
}

// sync follows the homeserver until the context is done.
func (s *Session) sync(ctx context.Context, filter, since string) {
	pause := backOff(time.Second, 30*time.Second)
	failing, again := false, false
	for ctx.Err() == nil {
		response, err := s.poll(ctx, filter, since, failing)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if failing {
				s.Log.Info("Sync works again")
				pause.Reset()
			}
			s.handle(ctx, response, since, failing)
			since, failing, again = response.NextBatch, false, false
			continue
		case errors.Is(err, errAgain) && !again:
			again = true
			continue
		case !failing:
			s.Log.WithError(err).Warn("Sync fails; what others write is not seen until it works again")
			failing = true
		}
		select {
		case <-time.After(max(pause.NextBackOff(), judge(err).wait)):
		case <-ctx.Done():
		}
	}
}

// poll makes one sync request.
func (s *Session) poll(ctx context.Context, filter, since string, failing bool) (*mautrix.RespSync, error) {
	poll := pollTimeout
	if failing {
		poll = 0 // the first answer after trouble is wanted at once
	}
	ctx, cancel := context.WithTimeout(ctx, poll+s.Timeout)
	defer cancel()
	token := s.currentToken()
	response, err := s.client.FullSyncRequest(ctx, mautrix.ReqSync{
		Timeout:     int(poll.Milliseconds()),
		Since:       since,
		FilterID:    filter,
		SetPresence: s.client.SyncPresence,
	})
	err = anonymous(err)
	if errors.Is(err, mautrix.MUnknownToken) {
		if loginErr := s.logInAgain(ctx, token); loginErr != nil {
			return nil, fmt.Errorf("%w: %w", loginErr, err)
		}
		return nil, errAgain
	}
	if err == nil && (response == nil || response.NextBatch == "") {
		err = errors.New("the homeserver's answer has no next_batch")
	}
	return response, err
}

// handle takes over one sync response: first the rooms' state, then the
// handlers that were registered at the client's syncer.
func (s *Session) handle(ctx context.Context, response *mautrix.RespSync, since string, resumed bool) {
	s.observe(response, resumed)
	if err := s.client.Syncer.ProcessResponse(ctx, response, since); err != nil {
		// A handler that panics must not end the sync loop for all others.
		s.Log.WithError(err).Error("A sync handler failed; the rest of this sync response was not handed to the handlers")
	}
}

// observe reports what a sync response brought of each room.
func (s *Session) observe(response *mautrix.RespSync, resumed bool) {
	for room, news := range response.Rooms.Join {
		// The state section is the state before the timeline, so it comes first.
		// A server that sends state_after (MSC4222) has the last word there.
		update := Update{Room: room, Gap: news.Timeline.Limited, Resumed: resumed, State: slices.Clone(news.State.Events)}
		for _, evt := range news.Timeline.Events {
			switch {
			case evt.StateKey != nil:
				update.State = append(update.State, evt)
			case evt.Type.Type == event.EventRedaction.Type:
				update.Redacted = append(update.Redacted, redacts(evt))
			}
		}
		if news.StateAfter != nil {
			update.State = append(update.State, news.StateAfter.Events...)
		}
		s.Update(update)
	}
	for room := range response.Rooms.Leave {
		s.Update(Update{Room: room, Left: true})
	}
}

// redacts returns the event that a redaction is about: since room version 11 it
// stands in the content.
func redacts(evt *event.Event) id.EventID {
	if evt.Redacts != "" {
		return evt.Redacts
	}
	redacted, _ := evt.Content.Raw["redacts"].(string)
	return id.EventID(redacted)
}
