package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/cenkalti/backoff/v5"
	"github.com/sirupsen/logrus"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// ErrUnknownRoom says that there is no such room, or that the bot is not in it.
var ErrUnknownRoom = errors.New("unknown room")

// Resolve returns the room that is meant by a configured name, an alias or a
// room ID. What an alias stood for is remembered.
func (s *Session) Resolve(ctx context.Context, room string) (id.RoomID, error) {
	target := s.Target(room)
	switch {
	case strings.HasPrefix(target, "!"):
		return id.RoomID(target), nil
	case !strings.HasPrefix(target, "#"):
		return "", fmt.Errorf("%w: %q is no name in the configuration's rooms, no alias and no room ID", ErrUnknownRoom, room)
	}
	s.mu.RLock()
	known, ok := s.aliases[target]
	unsure := s.unsure[target]
	s.mu.RUnlock()
	switch {
	case !ok:
		return s.askAlias(ctx, target)
	case unsure && s.IsConnected() && !s.IsUnreachable():
		if now, err := s.askAlias(ctx, target); err == nil {
			return now, nil
		}
	}
	return known, nil
}

// ResolveNow is like Resolve where it is not worth waiting for a homeserver that is away, as with
// [Session.Answers].
func (s *Session) ResolveNow(ctx context.Context, room string) (id.RoomID, error) {
	if target := s.Target(room); strings.HasPrefix(target, "#") && !s.knowsAlias(target) {
		if err := s.Answers(ctx); err != nil {
			return "", fmt.Errorf("looking up the alias %s: %w", target, err)
		}
	}
	return s.Resolve(ctx, room)
}

func (s *Session) knowsAlias(alias string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, known := s.aliases[alias]
	return known
}

// askAlias asks the homeserver which room an alias stands for, and remembers that.
func (s *Session) askAlias(ctx context.Context, alias string) (id.RoomID, error) {
	var response *mautrix.RespAliasResolve
	_, err := s.Try(ctx, func(ctx context.Context) (err error) {
		response, err = s.client.ResolveAlias(ctx, id.RoomAlias(alias))
		if err == nil && (response == nil || response.RoomID == "") {
			err = Missing("room_id")
		}
		return err
	})
	switch {
	case IsStatus(err, http.StatusNotFound):
		return "", fmt.Errorf("%w: the homeserver knows no alias %s: %w", ErrUnknownRoom, alias, err)
	case err != nil:
		return "", fmt.Errorf("looking up the alias %s: %w", alias, err)
	}
	s.mu.Lock()
	known := s.aliases[alias]
	s.aliases[alias] = response.RoomID
	delete(s.unsure, alias)
	s.mu.Unlock()
	if known != "" && known != response.RoomID {
		s.Log.WithFields(logrus.Fields{"alias": alias, "room": known.String(), "now": response.RoomID.String()}).
			Warn("An alias has moved to another room, which it means from now on; what was set before goes to the one that it meant then, and the default room is the one that was found at the start")
	}
	if known != response.RoomID && s.Learnt != nil {
		s.Learnt(alias, response.RoomID)
	}
	return response.RoomID, nil
}

// Target returns what is meant by a configured name: an alias or a room ID. What is
// no name stands for itself.
func (s *Session) Target(room string) string {
	if target, named := s.Rooms[room]; named {
		return target
	}
	return room
}

// ForgetAlias makes the next Resolve of an alias ask the homeserver again. It
// reports whether a room is meant by an alias, which may have been moved.
func (s *Session) ForgetAlias(room string) bool {
	target := s.Target(room)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.aliases, target)
	return strings.HasPrefix(target, "#")
}

// PutState stores a state event. Each attempt asks first whether it may be made.
// acted says that the homeserver may have stored it although there is an error. Where nobody
// waits for it, idle is a context that ends when somebody does: what has not had its turn by
// then is not sent, and the error is [ErrGaveWay]. Else idle is nil.
func (s *Session) PutState(ctx, idle context.Context, room id.RoomID, eventType event.Type, stateKey string, content json.RawMessage, may func() error) (eventID id.EventID, acted bool, err error) {
	acted, err = s.TrySending(ctx, idle, room, urgency(idle), func(ctx context.Context) (err error) {
		if err := may(); err != nil {
			return backoff.Permanent(err)
		}
		url := s.client.BuildClientURL("v3", "rooms", room, "state", eventType.Type, stateKey)
		eventID, err = s.Put(ctx, url, content)
		return err
	})
	return eventID, acted, err
}

// urgency says who waits for what has to be done once idle ends.
func urgency(idle context.Context) Urgency {
	if idle == nil {
		return Write
	}
	return Chore
}

// Send sends an event that is not a state event, and that a state event is to point at which
// follows. However often it is tried, it stands in the room once. idle is as for PutState.
func (s *Session) Send(ctx, idle context.Context, room id.RoomID, eventType event.Type, content json.RawMessage) (id.EventID, error) {
	transaction := s.client.TxnID()
	var eventID id.EventID
	t := newTurn(idle, room, urgency(idle))
	t.part = true
	_, err := s.tryLoggedIn(ctx, t, func(ctx context.Context) (err error) {
		url := s.client.BuildClientURL("v3", "rooms", room, "send", eventType.Type, transaction)
		eventID, err = s.Put(ctx, url, content)
		return err
	})
	return eventID, err
}

// Put makes one request that is answered with an event ID. mautrix's own methods
// would put the content in its log.
func (s *Session) Put(ctx context.Context, url string, content json.RawMessage) (id.EventID, error) {
	var response mautrix.RespSendEvent
	_, answer, err := s.client.MakeFullRequestWithResp(ctx, mautrix.FullRequest{
		Method:           http.MethodPut,
		URL:              url,
		Headers:          http.Header{"Content-Type": {"application/json"}},
		RequestBytes:     content, // as RequestJSON it would be parsed and escaped once more
		ResponseJSON:     &response,
		SensitiveContent: true,
	})
	switch {
	case answer != nil && answer.Request != nil && answer.Request.Method != http.MethodPut:
		// A program's own mautrix.Client may follow a redirect with a GET.
		from, _, _ := strings.Cut(url, "/_matrix/")
		return "", &redirect{from, baseURL(answer.Request.URL)}
	case err != nil:
		return "", err
	case !strings.HasPrefix(response.EventID.String(), "$"):
		return "", Missing("event_id")
	}
	return response.EventID, nil
}
