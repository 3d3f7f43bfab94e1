package adapter

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sirupsen/logrus"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// maxJoins is how many rooms the bot joins at the same time: a join may take as long as
// the room's homeserver likes, and others are not to wait for that.
const maxJoins = 8

// Invitations are those that are not answered yet. One lane answers them, so that
// however many come, the bot makes a few requests at a time for them: maxJoins, and
// one that rejects.
type invitations struct {
	waiting  []invitation                     // what the lane has not looked at; owned by adapter.mu
	busy     bool                             // the lane runs; owned by adapter.mu
	standing map[id.RoomID]context.CancelFunc // of the contexts of all; owned by adapter.mu

	joins chan struct{} // holds an element for each join under way

	// The rest is owned by the lane.
	unwelcome []invitation      // to reject, when none is left to accept
	warned    recent[id.UserID] // whose invitations were said to be rejected
}

// An invitation is a room's that the bot was invited to.
type invitation struct {
	room     id.RoomID
	invite   *event.Event    // the bot's member event
	replaces id.RoomID       // the room that this one says it replaces, or ""
	ctx      context.Context // ends when it is withdrawn, and with the adapter's
}

// pushInvitation takes over an invitation. It is called with a.mu held.
func (a *adapter) pushInvitation(roomID id.RoomID, state []*event.Event) {
	if a.closed {
		return
	}
	state = own(roomID, state)
	i := lastIndex(state, func(evt *event.Event) bool {
		return evt.Type == event.StateMember && evt.GetStateKey() == a.client.UserID.String()
	})
	if i < 0 || parse(state[i]) != nil || state[i].Content.AsMember().Membership != event.MembershipInvite {
		return
	}
	a.invitations.withdraw(roomID) // it is another by now
	ctx, withdraw := context.WithCancel(a.ctx)
	a.invitations.standing[roomID] = withdraw
	a.invitations.waiting = append(a.invitations.waiting, invitation{roomID, state[i], replaced(state), ctx})
}

// replaced returns the room that a room says it replaces, by what comes with an invitation, or "".
func replaced(state []*event.Event) id.RoomID {
	i := lastIndex(state, func(evt *event.Event) bool { return evt.Type == event.StateCreate })
	if i < 0 || parse(state[i]) != nil {
		return ""
	}
	return state[i].Content.AsCreate().GetPredecessor().RoomID
}

// withdraw notes that an invitation, if there is one, does not stand any more. It is
// called with adapter.mu held.
func (i *invitations) withdraw(roomID id.RoomID) {
	if withdraw, ok := i.standing[roomID]; ok {
		withdraw()
		delete(i.standing, roomID)
	}
}

// forget lets go of an invitation that was answered. It is called with adapter.mu held.
func (i *invitations) forget(answered invitation) {
	if answered.ctx.Err() == nil { // else there may be another to the same room
		i.withdraw(answered.room)
	}
}

// wakeInvitations starts the lane of the invitations if it is needed. It is called
// with a.mu held.
func (a *adapter) wakeInvitations() {
	if a.running && !a.closed && !a.invitations.busy && len(a.invitations.waiting) > 0 {
		a.invitations.busy = true
		a.lanes.Go(a.drainInvitations)
	}
}

// drainInvitations is the lane of the invitations. It accepts all that it may
// before it rejects one, so that nobody waits for those whom it does not follow.
func (a *adapter) drainInvitations() {
	for {
		a.mu.Lock()
		came := a.invitations.waiting
		a.invitations.waiting = nil
		if a.closed || len(came)+len(a.invitations.unwelcome) == 0 {
			a.invitations.busy = false
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		a.answer(came)
	}
}

// answer answers invitations: those that it accepts, and one of those that it rejects.
func (a *adapter) answer(came []invitation) {
	defer session.Survive(a.session.Log, "answering invitations")
	var others []invitation
	for _, i := range came {
		if a.invites.allow(a.client.UserID, i.invite.Sender) {
			a.accept(i)
		} else {
			others = append(others, i)
		}
	}
	for _, i := range a.choose(others) {
		a.accept(i)
	}
	if len(a.invitations.unwelcome) > 0 {
		next := a.invitations.unwelcome[0]
		a.invitations.unwelcome = a.invitations.unwelcome[1:]
		a.reject(next)
	}
}

// choose returns those of strangers' invitations that the bot follows. Of the others, it
// keeps those that are to be rejected.
func (a *adapter) choose(others []invitation) (welcome []invitation) {
	if len(others) == 0 {
		return nil
	}
	var rooms []id.RoomID
	for _, i := range others {
		rooms = append(rooms, i.room)
	}
	// A room of the settings is one that the bot is to be in, whoever invites it there.
	named, err := a.session.Named(a.ctx, rooms)
	joined, joinedErr := a.session.JoinedRooms(a.ctx)
	if err = errors.Join(err, joinedErr); err != nil && a.ctx.Err() == nil {
		a.session.Log.WithError(err).Warn("The bot was invited, and it could not be found out whether to a room that it is to be in; where it is not, the invitation stands until the next start")
	}
	upgraded := a.upgraded(others, joined)
	for _, i := range others {
		u, asked := upgraded[i.replaces]
		switch {
		case slices.Contains(named, i.room), a.calls(i.room, u):
			welcome = append(welcome, i)
		case slices.Contains(joined, i.room): // by now, perhaps, as a room of the memory
			a.answered(i, true)
		case err != nil:
			a.answered(i, false)
		case asked && u == nil: // by hand, the tombstone that names a room comes after it
			a.log(i.room).WithField("inviter", i.invite.Sender.String()).Debug("The bot was invited to a room that is to replace one that it is in, and follows if that is upgraded")
			a.answered(i, false)
		default:
			a.invitations.unwelcome = append(a.invitations.unwelcome, i)
		}
	}
	return welcome
}

// A joining is what the room's lane waits for while the bot joins a room, and then tells.
type joining struct {
	invitation *InvitationEvent // nil: none that the bot would have answered
	upgrade    *UpgradeEvent    // nil: the bot has not come along from a room that this one replaces
	over       bool             // owned by adapter.mu; the others are, too, until then
}

func (a *adapter) tell(j *joining) {
	if j.invitation != nil {
		a.outlet.Emit(*j.invitation)
	}
	if j.upgrade != nil {
		a.outlet.Emit(*j.upgrade)
	}
}

// accept joins a room, beside others. The room's lane emits the InvitationEvent, after what
// came before the invitation and before what the bot hears there.
func (a *adapter) accept(i invitation) {
	told := i.event(false)
	n := news{joining: &joining{invitation: &told}}
	a.mu.Lock()
	a.push(i.room, n)
	a.mu.Unlock()
	a.invitations.joins <- struct{}{}
	a.lanes.Go(func() {
		defer func() { <-a.invitations.joins }()
		a.join(i, n.joining)
	})
}

func (a *adapter) join(i invitation, joining *joining) {
	defer session.Survive(a.log(i.room), "accepting an invitation")
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		joining.over = true
		a.wake(a.room(i.room))
		a.invitations.forget(i)
	}()
	log := a.log(i.room).WithField("inviter", i.invite.Sender.String())
	err := a.session.AcceptInvite(i.ctx, i.room)
	switch {
	case a.ctx.Err() != nil: // the invitation stands, and is answered at the next start
	case err == nil:
		log.Info("The bot was invited and has joined")
		a.mu.Lock()
		joining.invitation.Joined = true
		u := a.upgrades.ahead[i.room]
		a.mu.Unlock()
		if u != nil {
			a.hasCome(i, u, joining)
		}
	case i.ctx.Err() != nil:
		log.Info("The bot was invited, but the invitation was withdrawn before it could join")
	default:
		log.WithError(err).Warn("The bot was invited, but could not join; invite it again")
	}
}

// hasCome completes the upgrade of a room to the one that the bot has joined as it was invited there.
func (a *adapter) hasCome(i invitation, u *session.Upgrade, joining *joining) {
	err := a.arrive(u, joining)
	if err == nil {
		return
	}
	a.stays(u.Old, err)
	if !errors.Is(err, session.ErrUntrusted) || a.invites.allow(a.client.UserID, i.invite.Sender) {
		return
	}
	if err := a.session.Leave(a.ctx, i.room); err == nil { // as the upgrade alone has called it there
		a.mu.Lock()
		defer a.mu.Unlock()
		joining.invitation.Joined = false
	} else if a.ctx.Err() == nil {
		a.log(i.room).WithError(err).Warn("The bot was invited by a user who may not invite it, has joined, and could not leave again")
	}
}

// reject rejects an invitation, unless the bot is to be in the room after all, or is so by now, as
// by another device of its account, or the invitation was withdrawn.
func (a *adapter) reject(i invitation) {
	if a.calls(i.room, nil) {
		a.accept(i)
		return
	}
	a.mu.Lock()
	r, ok := a.rooms[i.room]
	joined := ok && r.in
	a.mu.Unlock()
	if joined || i.ctx.Err() != nil {
		if !joined && a.ctx.Err() == nil {
			a.log(i.room).WithField("inviter", i.invite.Sender.String()).Info("The bot was invited, and the invitation was withdrawn")
		}
		a.answered(i, joined)
		return
	}
	err := a.session.Leave(a.ctx, i.room) // not i.ctx: sync may tell of it before the answer comes
	if a.ctx.Err() != nil {
		return // the invitation stands, and is answered at the next start
	}
	inviter := i.invite.Sender
	log, level := a.log(i.room).WithField("inviter", inviter.String()), logrus.WarnLevel
	if a.invitations.warned.has(inviter) {
		level = logrus.DebugLevel
	}
	a.invitations.warned.add(inviter)
	if err == nil {
		log.Log(level, "The bot was invited and has rejected that, as the inviter may not invite it: "+
			fmt.Sprintf("allow it with adapter.WithInvitesFrom(%q), with WithInvitesFrom(%q) or with WithInvitesFromAnyone(), and invite the bot again; ", inviter, inviter.Homeserver())+
			"further invitations by this user are in the debug log")
	} else {
		log.WithError(err).Log(level, "The bot was invited by a user who may not invite it, and could not reject that; if the invitation stands, it is answered at the next start")
	}
	a.answered(i, false)
}

// answered emits that the bot was invited to a room that it does not join now.
func (a *adapter) answered(i invitation, joined bool) {
	a.mu.Lock()
	a.invitations.forget(i)
	a.mu.Unlock()
	if a.ctx.Err() == nil {
		a.outlet.Emit(i.event(joined))
	}
}

// event returns what the bot is told of an invitation.
func (i invitation) event(joined bool) InvitationEvent {
	return InvitationEvent{
		AuthorID: i.invite.Sender.String(),
		Joined:   joined,
		Channel:  i.room.String(),
		Data:     i.invite,
	}
}
