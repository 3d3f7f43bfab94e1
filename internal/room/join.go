package room

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"sync"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// FindOrJoin returns the room that is called by a name, an alias or an ID, and joins
// it if the bot is not in it.
func (rs *Rooms) FindOrJoin(ctx context.Context, name string) (*Room, error) {
	roomID, err := rs.Session.ResolveNow(ctx, name)
	if err != nil {
		return nil, explain(err)
	}
	r, err := rs.use(ctx, roomID)
	if !unusable(err) {
		return r, err
	}
	if err := rs.join(ctx, name, roomID); err != nil {
		return nil, explain(fmt.Errorf("joining it: %w%s", err, advice(err)))
	}
	return rs.use(ctx, roomID)
}

// JoinAll joins, in the background, the rooms that the bot is to be in, as opsdroid does.
func (rs *Rooms) JoinAll() {
	rs.inBackground(func() {
		if rs.Session.Reach(rs.reading) != nil {
			return
		}
		joined := sync.OnceValues(func() ([]id.RoomID, error) { return rs.Session.JoinedRooms(rs.reading) })
		for _, name := range rs.Session.Names {
			if err := rs.joinUnless(name, joined); err != nil && rs.reading.Err() == nil {
				rs.Log.WithField("room", name).WithError(err).Warn("Could not join a room of the settings" + advice(err))
			}
		}
	})
}

// joinUnless joins a room, unless it is in use or one of those that the bot is in.
func (rs *Rooms) joinUnless(name string, joined func() ([]id.RoomID, error)) error {
	roomID, err := rs.Session.Resolve(rs.reading, name)
	if err != nil || rs.isLoaded(roomID) {
		return err
	}
	in, err := joined()
	if err != nil || slices.Contains(in, roomID) {
		return err
	}
	return rs.join(rs.reading, name, roomID)
}

// join joins a room. The homeserver may refuse that for a moment after an invitation.
func (rs *Rooms) join(ctx context.Context, name string, roomID id.RoomID) error {
	rs.mu.RLock()
	invited := rs.invited[roomID]
	rs.mu.RUnlock()
	var err error
	if invited {
		err = rs.Session.AcceptInvite(ctx, roomID)
	} else {
		err = rs.Session.Join(ctx, rs.Session.Target(name))
	}
	if err == nil {
		rs.Log.WithField("room", roomID.String()).Info("Joined the room")
	}
	return err
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
	for _, roomID := range rooms {
		rs.invited[roomID] = true
	}
	rs.invitations = append(rs.invitations, rooms...)
	begun := rs.answering
	rs.answering = true
	rs.mu.Unlock()
	for _, roomID := range rooms {
		rs.tryAgain(roomID)
	}
	if !begun {
		rs.inBackground(rs.answer)
	}
}

// answer answers the invitations.
func (rs *Rooms) answer() {
	for {
		rs.mu.Lock()
		invitations := rs.invitations
		rs.invitations, rs.answering = nil, len(invitations) > 0
		rs.mu.Unlock()
		if len(invitations) == 0 {
			return
		}
		named, err := rs.Session.Named(rs.reading, invitations)
		if err != nil && rs.reading.Err() == nil {
			rs.Log.WithError(err).Warn("The bot was invited, and it could not be found out whether to a room of the settings; invite it again")
		}
		for _, roomID := range named {
			if err := rs.join(rs.reading, roomID.String(), roomID); err != nil && rs.reading.Err() == nil {
				rs.Log.WithField("room", roomID.String()).WithError(err).Warn("The bot was invited, but could not join; invite it again")
			}
		}
	}
}

// ban matches what homeservers say of one who is banned. Matrix has no code for that.
var ban = regexp.MustCompile(`(?i)\bban(ned)?\b`)

// advice says what lets the bot join a room that the homeserver does not let it join.
func advice(err error) string {
	var said mautrix.RespError
	switch {
	case !session.IsStatus(err, http.StatusForbidden):
		return ""
	case errors.As(err, &said) && ban.MatchString(said.Err):
		return "; the bot is banned there, so have that lifted first, and then invite it"
	}
	return "; invite the bot, or make the room public"
}
