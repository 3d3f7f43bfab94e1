package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
)

// Join joins a room, by its alias or ID. An alias also tells which servers the room
// can be joined by.
func (s *Session) Join(ctx context.Context, room string) error {
	_, err := s.Try(ctx, func(ctx context.Context) error {
		response, err := s.client.JoinRoom(ctx, room, nil)
		if err == nil && (response == nil || response.RoomID == "") {
			err = Missing("room_id")
		}
		return err
	})
	return err
}

// AcceptInvite joins a room that the bot was invited to. The invitation may come down sync
// before the homeserver lets the bot join, so a refusal counts only after the timeout.
func (s *Session) AcceptInvite(ctx context.Context, room id.RoomID) error {
	pause := backOff(500*time.Millisecond, 5*time.Second)
	for over := time.After(s.Timeout); ; {
		err := s.Join(ctx, room.String())
		if !IsStatus(err, http.StatusForbidden) {
			return err
		}
		select {
		case <-time.After(pause.NextBackOff()):
		case <-over:
			return err
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, ctx.Err())
		case <-s.life.Done():
			return ErrClosed
		}
	}
}

// Leave leaves a room, or rejects the invitation there, which to the homeserver is the same
// (https://spec.matrix.org/v1.16/client-server-api/#leaving-rooms).
func (s *Session) Leave(ctx context.Context, room id.RoomID) error {
	_, err := s.Try(ctx, func(ctx context.Context) error {
		_, err := s.client.LeaveRoom(ctx, room)
		return err
	})
	return err
}

// Named returns those of some rooms that are among the rooms that the bot is to be in. An
// alias may have been moved to one of them. If there is an error, some may be missing.
func (s *Session) Named(ctx context.Context, rooms []id.RoomID) (named []id.RoomID, err error) {
	for _, name := range s.Names {
		room, failed := s.Resolve(ctx, name)
		if target := s.Target(name); failed == nil && !slices.Contains(rooms, room) && strings.HasPrefix(target, "#") {
			room, failed = s.askAlias(ctx, target) // it may have been moved
		}
		switch {
		case slices.Contains(named, room): // it has several names
		case failed == nil && slices.Contains(rooms, room):
			named = append(named, room)
		case failed != nil && !errors.Is(failed, ErrUnknownRoom):
			err = failed
		}
	}
	return named, err
}

// JoinedRooms returns the rooms that the bot is in.
func (s *Session) JoinedRooms(ctx context.Context) ([]id.RoomID, error) {
	var response *mautrix.RespJoinedRooms
	_, err := s.Try(ctx, func(ctx context.Context) (err error) {
		response, err = s.client.JoinedRooms(ctx)
		if err == nil && response == nil {
			err = Missing("joined_rooms")
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("asking which rooms the bot is in: %w", err)
	}
	return response.JoinedRooms, nil
}
