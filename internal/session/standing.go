package session

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// Standing returns the content of the state event that stands under a state key, and
// whether there is one. It is right on Synapse for a redacted event, too.
func (s *Session) Standing(ctx context.Context, room id.RoomID, eventType event.Type, stateKey string) (content json.RawMessage, found bool, err error) {
	_, err = s.Try(ctx, func(ctx context.Context) error {
		content = nil
		err := s.client.StateEvent(ctx, room, eventType, stateKey, &content)
		if err == nil && !bytes.HasPrefix(bytes.TrimSpace(content), []byte("{")) {
			err = Missing("content")
		}
		return err
	})
	if IsStatus(err, http.StatusNotFound) {
		return nil, false, nil
	}
	return content, err == nil, err
}

// StateEvent returns the state event that stands under a state key. It returns nil if
// none does, or if the homeserver does not say which: Synapse 1.98 gives no event ID.
func (s *Session) StateEvent(ctx context.Context, room id.RoomID, eventType event.Type, stateKey string) (*event.Event, error) {
	evt, err := s.fullEvent(ctx, room, eventType, stateKey)
	if evt != nil && evt.ID == "" {
		return nil, err
	}
	return evt, err
}

// fullEvent is StateEvent for what needs no event ID: nil only if there is none. Of a redacted
// event Synapse 1.98 gives nothing but an error.
func (s *Session) fullEvent(ctx context.Context, room id.RoomID, eventType event.Type, stateKey string) (evt *event.Event, err error) {
	_, err = s.Try(ctx, func(ctx context.Context) (err error) {
		evt, err = s.client.FullStateEvent(ctx, room, eventType, stateKey)
		return err
	})
	if err != nil {
		if IsStatus(err, http.StatusNotFound) {
			err = nil
		}
		return nil, err
	}
	return evt, nil
}
