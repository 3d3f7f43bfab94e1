package adapter

import (
	"fmt"
	"slices"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
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
	if a.invites.allow(me, invite.Sender) || a.isNamed(r) {
		if err := a.session.AcceptInvite(a.ctx, r.id); a.ctx.Err() != nil {
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

// isNamed says whether a room is one that the bot is to be in, whoever invites it there.
func (a *adapter) isNamed(r *room) bool {
	named, err := a.session.Named(a.ctx, []id.RoomID{r.id})
	if err != nil && a.ctx.Err() == nil {
		a.log(r.id).WithError(err).Warn("The bot was invited, and it could not be found out whether to a room of the settings")
	}
	return len(named) > 0
}

// isMember says whether the bot is in a room.
func (a *adapter) isMember(r *room) bool {
	rooms, err := a.session.JoinedRooms(a.ctx)
	return err == nil && slices.Contains(rooms, r.id)
}
