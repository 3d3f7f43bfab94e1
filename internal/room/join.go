package room

import (
	"context"
	"fmt"
	"regexp"
	"slices"

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
		in, err := rs.Session.JoinedRooms(rs.reading)
		if err != nil {
			rs.Log.WithError(err).Warn("Could not join the rooms of the settings")
			return
		}
		for _, name := range rs.Names {
			if err := rs.join(name, in); err != nil && rs.reading.Err() == nil {
				rs.Log.WithField("room", name).WithError(err).Warn("Could not join a room of the settings; " + advice(err))
			}
		}
	})
}

// join joins a room, unless it is one of those that the bot is in.
func (rs *Rooms) join(name string, in []id.RoomID) error {
	roomID, err := rs.Session.Resolve(rs.reading, name)
	if err != nil || slices.Contains(in, roomID) {
		return err
	}
	if err := rs.Session.Join(rs.reading, rs.Session.Target(name)); err != nil {
		return err
	}
	rs.joined(roomID)
	return nil
}

// Invited joins a room that the bot was invited to, in the background, if it is to be in it.
func (rs *Rooms) Invited(roomID id.RoomID) {
	rs.inBackground(func() {
		if !slices.ContainsFunc(rs.Names, func(name string) bool {
			known, err := rs.Session.Resolve(rs.reading, name)
			return err == nil && known == roomID
		}) {
			return
		}
		switch err := rs.Session.AcceptInvite(rs.reading, roomID); {
		case err == nil:
			rs.joined(roomID)
		case rs.reading.Err() == nil:
			rs.Log.WithField("room", roomID.String()).WithError(err).Warn("The bot was invited, but could not join; invite it again")
		}
	})
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
