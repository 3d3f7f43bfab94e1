package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/cenkalti/backoff/v5"
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
	s.mu.RUnlock()
	if ok {
		return known, nil
	}
	return s.askAlias(ctx, target)
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
	s.aliases[alias] = response.RoomID
	s.mu.Unlock()
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
// acted says that the homeserver may have stored it although there is an error.
func (s *Session) PutState(ctx context.Context, room id.RoomID, eventType event.Type, stateKey string, content json.RawMessage, may func() error) (eventID id.EventID, acted bool, err error) {
	url := s.client.BuildClientURL("v3", "rooms", room, "state", eventType.Type, stateKey)
	acted, err = s.Try(ctx, func(ctx context.Context) (err error) {
		if err := may(); err != nil {
			return backoff.Permanent(err)
		}
		eventID, err = s.Put(ctx, url, content)
		return err
	})
	return eventID, acted, err
}

// Send sends an event that is not a state event. However often it is tried, it
// stands in the room once.
func (s *Session) Send(ctx context.Context, room id.RoomID, eventType event.Type, content json.RawMessage) (id.EventID, error) {
	url := s.client.BuildClientURL("v3", "rooms", room, "send", eventType.Type, s.client.TxnID())
	var eventID id.EventID
	_, err := s.Try(ctx, func(ctx context.Context) (err error) {
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
