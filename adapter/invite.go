package adapter

import (
	"context"
	"fmt"
	"slices"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"

	"github.com/go-joe/matrix-memory/internal/session"
)

// invited answers an invitation.
func (a *adapter) invited(r *room, state []*event.Event) {
	me := a.client.UserID
	i := lastIndex(state, func(evt *event.Event) bool {
		return evt.Type == event.StateMember && evt.GetStateKey() == me.String()
	})
	if i < 0 || state[i].Content.ParseRaw(state[i].Type) != nil {
		return
	}
	invite := state[i]
	if invite.Content.AsMember().Membership != event.MembershipInvite {
		return
	}
	log := a.log(r.id).WithField("inviter", invite.Sender.String())
	joined := false
	if a.invites.allow(me, invite.Sender) {
		if err := a.session.Join(a.ctx, r.id.String()); a.ctx.Err() != nil {
			return // the invitation stands, and is answered at the next start
		} else if err != nil {
			log.WithError(err).Warn("The bot was invited, but could not join; invite it again")
		} else {
			log.Info("The bot was invited and has joined")
			joined = true
		}
	} else if joined = a.isMember(r); !joined && a.ctx.Err() == nil { // by now, perhaps, as the memory's default room
		log.Warn("The bot was invited and has not joined, as the inviter may not invite it: " +
			fmt.Sprintf("allow it with adapter.WithInvitesFrom(%q), with WithInvitesFrom(%q) or with WithInvitesFromAnyone()", invite.Sender, invite.Sender.Homeserver()))
	}
	a.outlet.emit(InvitationEvent{
		AuthorID: invite.Sender.String(),
		Joined:   joined,
		Channel:  r.id.String(),
		Data:     invite,
	})
}

// isMember says whether the bot is in a room.
func (a *adapter) isMember(r *room) bool {
	var response *mautrix.RespJoinedRooms
	_, err := a.session.Try(a.ctx, func(ctx context.Context) (err error) {
		response, err = a.client.JoinedRooms(ctx)
		if err == nil && response == nil {
			err = session.Missing("joined_rooms")
		}
		return err
	})
	return err == nil && slices.Contains(response.JoinedRooms, r.id)
}
