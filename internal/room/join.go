package room

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"sync"

	"maunium.net/go/mautrix/id"
)

// FindOrJoin returns the room that is called by a name, an alias or an ID, and joins
// it if the bot is not in it.
func (rs *Rooms) FindOrJoin(ctx context.Context, name string) (*Room, error) {
	roomID, err := rs.Session.Resolve(ctx, name)
	if err != nil {
		return nil, explain(err)
	}
	r, err := rs.use(ctx, roomID)
	if !unusable(err) {
		return r, err
	}
	if err := rs.Session.Join(ctx, rs.Session.Target(name)); err != nil {
		return nil, explain(fmt.Errorf("joining it: %w; %s", err, advice(err)))
	}
	rs.joined(roomID)
	return rs.use(ctx, roomID)
}

// JoinAll joins, in the background, the rooms that the bot is to be in, as opsdroid does.
func (rs *Rooms) JoinAll() {
	rs.inBackground(func() {
		joined := sync.OnceValues(func() ([]id.RoomID, error) { return rs.Session.JoinedRooms(rs.reading) })
		for _, name := range rs.Names {
			if err := rs.join(name, joined); err != nil && rs.reading.Err() == nil {
				rs.Log.WithField("room", name).WithError(err).Warn("Could not join a room of the settings; " + advice(err))
			}
		}
	})
}

// join joins a room, unless it is in use or one of those that the bot is in.
func (rs *Rooms) join(name string, joined func() ([]id.RoomID, error)) error {
	roomID, err := rs.Session.Resolve(rs.reading, name)
	if err != nil || rs.isLoaded(roomID) {
		return err
	}
	in, err := joined()
	if err != nil || slices.Contains(in, roomID) {
		return err
	}
	if err := rs.Session.Join(rs.reading, rs.Session.Target(name)); err != nil {
		return err
	}
	rs.joined(roomID)
	return nil
}

// isLoaded says whether a room's state is known.
func (rs *Rooms) isLoaded(roomID id.RoomID) bool {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	r, ok := rs.byID[roomID]
	return ok && r.Loaded()
}

// Invited joins those rooms that the bot was invited to and is to be in, in the background
// and one after another.
func (rs *Rooms) Invited(rooms []id.RoomID) {
	rs.mu.Lock()
	rs.invitations = append(rs.invitations, rooms...)
	begun := rs.answering
	rs.answering = true
	rs.mu.Unlock()
	if !begun {
		rs.inBackground(rs.answer)
	}
}

// answer answers the invitations.
func (rs *Rooms) answer() {
	for {
		rs.mu.Lock()
		invited := rs.invitations
		rs.invitations, rs.answering = nil, len(invited) > 0
		rs.mu.Unlock()
		if len(invited) == 0 {
			return
		}
		for _, name := range rs.Names {
			roomID, err := rs.Session.Resolve(rs.reading, name)
			if err == nil && slices.Contains(invited, roomID) {
				rs.accept(roomID)
			}
		}
	}
}

func (rs *Rooms) accept(roomID id.RoomID) {
	switch err := rs.Session.AcceptInvite(rs.reading, roomID); {
	case err == nil:
		rs.joined(roomID)
	case rs.reading.Err() == nil:
		rs.Log.WithField("room", roomID.String()).WithError(err).Warn("The bot was invited, but could not join; invite it again")
	}
}

func (rs *Rooms) joined(roomID id.RoomID) {
	rs.Log.WithField("room", roomID.String()).Info("Joined the room")
}

// ban matches what homeservers say of one who is banned. Matrix has no code for that.
var ban = regexp.MustCompile(`(?i)\bban(ned)?\b`)

// advice says what lets the bot join a room that it could not join.
func advice(err error) string {
	if ban.MatchString(err.Error()) {
		return "the bot is banned there, so have that lifted first, and then invite it"
	}
	return "invite the bot, or make the room public"
}
