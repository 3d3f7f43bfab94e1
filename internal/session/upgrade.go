package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// ErrUntrusted says that a room's upgrade is not to be followed: anybody might have led the bot
// somewhere with it.
var ErrUntrusted = errors.New("the room's upgrade is not to be trusted")

// An Upgrade is a room's replacement by another:
// https://spec.matrix.org/v1.16/client-server-api/#room-upgrades
type Upgrade struct {
	Old, New  id.RoomID
	Tombstone *event.Event // of Old. Its ID is "" where the homeserver does not say it, as Synapse 1.98
}

// Upgraded returns what replaces a room; nil if nothing does. The error is [ErrUntrusted], beside
// the upgrade, if who sent the tombstone could not change the power levels of the room. That is what
// counts, as who creates the new one has all power there.
func (s *Session) Upgraded(ctx context.Context, room id.RoomID) (*Upgrade, error) {
	content, _, err := s.Standing(ctx, room, event.StateTombstone, "")
	if err == nil && Replacement(content, room) == "" {
		return nil, nil
	}
	var tombstone *event.Event
	if err == nil {
		tombstone, err = s.fullEvent(ctx, room, event.StateTombstone, "")
	}
	if err != nil {
		return nil, fmt.Errorf("asking whether the room was upgraded: %w", err)
	}
	if tombstone == nil || Replacement(tombstone.Content.VeryRaw, room) == "" { // it has changed meanwhile
		return nil, nil
	}
	u := &Upgrade{Old: room, New: Replacement(tombstone.Content.VeryRaw, room), Tombstone: tombstone}
	have, need, err := s.power(ctx, room, tombstone.Sender)
	switch {
	case err != nil:
		return nil, fmt.Errorf("asking whether %s may upgrade the room: %w", tombstone.Sender, err)
	case have < need:
		return u, fmt.Errorf("%w: %s, who has sent the tombstone that names %s, has power level %d, and to change the power levels takes %d", ErrUntrusted, tombstone.Sender, u.New, have, need)
	}
	return u, nil
}

// Replacement returns the room that the content of a room's tombstone names, or "".
func Replacement(content json.RawMessage, room id.RoomID) id.RoomID {
	var tombstone event.TombstoneEventContent
	if json.Unmarshal(content, &tombstone) != nil || !strings.HasPrefix(string(tombstone.ReplacementRoom), "!") || tombstone.ReplacementRoom == room {
		return ""
	}
	return tombstone.ReplacementRoom
}

// power returns a user's power level in a room, and the one that it takes to change the levels there.
func (s *Session) power(ctx context.Context, room id.RoomID, user id.UserID) (have, need int, err error) {
	create, err := s.create(ctx, room)
	if err != nil {
		return 0, 0, err
	}
	content, found, err := s.Standing(ctx, room, event.StatePowerLevels, "")
	if err != nil {
		return 0, 0, err
	}
	levels := &event.PowerLevelsEventContent{}
	if found {
		if levels, err = ParseLevels(content); err != nil {
			return 0, 0, fmt.Errorf("the room's power levels: %w", err)
		}
	} else {
		levels.Users = map[id.UserID]int{create.Sender: 100}
	}
	if parsed, err := ParseCreate(create); err == nil {
		levels.CreateEvent = parsed
	}
	return levels.GetUserLevel(user), levels.GetEventLevel(event.StatePowerLevels), nil
}

// Predecessor returns which room a room says that it replaces, "" if none, and who created it.
func (s *Session) Predecessor(ctx context.Context, room id.RoomID) (old id.RoomID, maker id.UserID, err error) {
	create, err := s.create(ctx, room)
	if err != nil {
		return "", "", fmt.Errorf("asking which room it replaces: %w", err)
	}
	return predecessor(create.Content.VeryRaw), create.Sender, nil
}

// predecessor returns the room that the content of an m.room.create event names. Since room version
// 12 it names no event of that: https://spec.matrix.org/v1.16/client-server-api/#mroomcreate
func predecessor(content json.RawMessage) id.RoomID {
	var create struct {
		Predecessor struct {
			RoomID id.RoomID `json:"room_id"`
		} `json:"predecessor"`
	}
	if json.Unmarshal(content, &create) != nil {
		return ""
	}
	return create.Predecessor.RoomID
}

// create returns a room's m.room.create event. Every room has one, but right after a join
// the homeserver may not give it yet.
func (s *Session) create(ctx context.Context, room id.RoomID) (*event.Event, error) {
	pause := backOff(50*time.Millisecond, time.Second)
	for over := time.After(s.Timeout); ; {
		create, err := s.fullEvent(ctx, room, event.StateCreate, "")
		if create != nil || err != nil {
			return create, err
		}
		select {
		case <-time.After(pause.NextBackOff()):
		case <-over:
			return nil, late{fmt.Errorf("the homeserver does not give the m.room.create event of %s, after %s", room, s.Timeout)}
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.life.Done():
			return nil, ErrClosed
		}
	}
}

// A way leads to a room that replaces another.
type way struct {
	turn *semaphore.Weighted // who comes next finds the bot in the room
	gone atomic.Bool         // the bot has joined by it, and not left at once
}

func (s *Session) way(room id.RoomID) *way {
	known, _ := s.ways.LoadOrStore(room, &way{turn: semaphore.NewWeighted(1)})
	return known.(*way)
}

// HasFollowed says whether the session has joined a room as it replaces another.
func (s *Session) HasFollowed(room id.RoomID) bool {
	known, ok := s.ways.Load(room)
	return ok && known.(*way).gone.Load()
}

// Follow sees to it that the bot is in the room that replaces another, if that says so itself. If
// it does not, the error is [ErrUntrusted], and the bot leaves it again, but not where it was before.
// Where the bot has to be invited, the homeserver's answer has status 403.
func (s *Session) Follow(ctx context.Context, u *Upgrade) error {
	way := s.way(u.New)
	if err := way.turn.Acquire(ctx, 1); err != nil {
		return err
	}
	defer way.turn.Release(1)
	joined, err := s.JoinedRooms(ctx)
	if err != nil {
		return err
	}
	if slices.Contains(joined, u.New) {
		return s.confirm(ctx, u)
	}
	err = s.joinBy(ctx, u.New, u.Tombstone.Sender.Homeserver(), domain(u.New), domain(u.Old))
	switch {
	case IsStatus(err, http.StatusForbidden):
		return fmt.Errorf("joining %s, which replaces the room: invite the bot there: %w", u.New, err)
	case err != nil:
		return fmt.Errorf("joining %s, which replaces the room: %w", u.New, err)
	}
	way.gone.Store(true)
	if err = s.confirm(ctx, u); errors.Is(err, ErrUntrusted) {
		if leaveErr := s.Leave(ctx, u.New); leaveErr == nil {
			way.gone.Store(false)
		} else {
			err = fmt.Errorf("%w; the bot has joined it, and could not leave it again: %w", err, leaveErr)
		}
	}
	return err
}

// Revisit joins a room that another one says to replace, which maker has created, so that it can be asked
// what it says of that. The bot may have been away while a room was upgraded more than once.
func (s *Session) Revisit(ctx context.Context, old id.RoomID, maker id.UserID) error {
	if err := s.joinBy(ctx, old, maker.Homeserver(), domain(old)); err != nil {
		return fmt.Errorf("joining it: %w", err)
	}
	return nil
}

// confirm checks that the new room names the old one.
func (s *Session) confirm(ctx context.Context, u *Upgrade) error {
	old, maker, err := s.Predecessor(ctx, u.New)
	switch {
	case err != nil:
		return fmt.Errorf("the room %s: %w", u.New, err)
	case old == "":
		return fmt.Errorf("%w: %s, which %s has created, does not say that it replaces a room", ErrUntrusted, u.New, maker)
	case old != u.Old:
		return fmt.Errorf("%w: %s, which %s has created, says that it replaces %s", ErrUntrusted, u.New, maker, old)
	}
	return nil
}

// joinBy joins a room by way of servers that may know it. The bot's own does not need to be told
// of itself; and others than the newest want the older name for servers, server_name.
func (s *Session) joinBy(ctx context.Context, room id.RoomID, servers ...string) error {
	var via []string
	for _, server := range servers {
		if server != "" && server != s.client.UserID.Homeserver() && !slices.Contains(via, server) {
			via = append(via, server)
		}
	}
	join := s.client.BuildURLWithFullQuery(mautrix.ClientURLPath{"v3", "join", room}, func(query url.Values) {
		if len(via) > 0 {
			query["via"], query["server_name"] = via, via
		}
	})
	_, err := s.Try(ctx, func(ctx context.Context) error {
		var response *mautrix.RespJoinRoom
		_, err := s.client.MakeRequest(ctx, http.MethodPost, join, struct{}{}, &response)
		if err == nil && (response == nil || response.RoomID == "") {
			err = Missing("room_id")
		}
		return err
	})
	return err
}

// domain returns the server that a room's ID names. Since room version 12 none does.
func domain(room id.RoomID) string {
	_, server, _ := strings.Cut(string(room), ":")
	return server
}
