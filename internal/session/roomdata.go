package session

import (
	"context"
	"fmt"
	"net/http"

	"maunium.net/go/mautrix/id"
)

// RoomData reads what the bot's account has noted under a name for a room, and says whether there is
// anything: https://spec.matrix.org/v1.16/client-server-api/#client-config
func (s *Session) RoomData(ctx context.Context, room id.RoomID, name string, data any) (found bool, err error) {
	_, err = s.Try(ctx, func(ctx context.Context) error {
		return s.client.GetRoomAccountData(ctx, room, name, data)
	})
	switch {
	case IsStatus(err, http.StatusNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("reading the account's data %s of the room: %w", name, err)
	}
	return true, nil
}

// SetRoomData notes something under a name for a room.
func (s *Session) SetRoomData(ctx context.Context, room id.RoomID, name string, data any) error {
	_, err := s.Try(ctx, func(ctx context.Context) error {
		return s.client.SetRoomAccountData(ctx, room, name, data)
	})
	if err != nil {
		return fmt.Errorf("setting the account's data %s of the room: %w", name, err)
	}
	return nil
}
