package adapter

import (
	"context"
	"encoding/json"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// A membershipChange is what a member event means.
type membershipChange int

const (
	nothing membershipChange = iota // as a new display name, or an invitation
	hasJoined
	hasLeft
)

// change tells a member who joins from one who changes the display name: only
// what the member was before says it.
func change(evt *event.Event) membershipChange {
	now, _ := evt.Content.Raw["membership"].(string)
	before := ""
	if previous := evt.Unsigned.PrevContent; previous != nil {
		before, _ = previous.Raw["membership"].(string)
	}
	const join = string(event.MembershipJoin)
	switch {
	case now == join && before != join:
		return hasJoined
	case now == string(event.MembershipLeave) && (before == join || before == ""),
		now == string(event.MembershipBan) && before == join: // strangers can be banned too
		return hasLeft
	}
	return nothing
}

// member takes over a member event, and emits it if somebody joined or left.
func (a *adapter) member(r *room, evt *event.Event) {
	if parse(evt) != nil {
		a.malformed(r, evt)
		return
	}
	user, content := id.UserID(evt.GetStateKey()), evt.Content.AsMember()
	if _, ok := r.names[user]; ok {
		r.names[user] = content.Displayname
	}
	if content.Membership != event.MembershipJoin {
		delete(r.members, user)
	} else if r.members != nil {
		r.members[user] = true
	}
	if user == a.client.UserID {
		return
	}
	switch change(evt) {
	case hasJoined:
		a.outlet.Emit(JoinEvent{UserID: user.String(), Name: content.Displayname, Channel: r.id.String(), Data: evt})
	case hasLeft:
		a.left(evt, user, content)
	}
}

func (a *adapter) left(evt *event.Event, user id.UserID, content *event.MemberEventContent) {
	a.outlet.Emit(LeaveEvent{
		UserID:   user.String(),
		AuthorID: evt.Sender.String(),
		Reason:   content.Reason,
		Channel:  evt.RoomID.String(),
		Data:     evt,
	})
}

// removed emits that another has removed the bot from a room.
func (a *adapter) removed(r *room, timeline []*event.Event) {
	i := lastIndex(timeline, func(evt *event.Event) bool {
		return evt.Type == event.StateMember && evt.GetStateKey() == a.client.UserID.String()
	})
	if i < 0 || timeline[i].Sender == a.client.UserID || change(timeline[i]) != hasLeft {
		return
	}
	if evt := timeline[i]; parse(evt) == nil {
		a.left(evt, a.client.UserID, evt.Content.AsMember())
	}
}

// name returns a member's display name, or "".
func (a *adapter) name(r *room, user id.UserID) string {
	if name, ok := r.names[user]; ok {
		return name
	}
	content, _, err := a.session.Standing(a.ctx, r.id, event.StateMember, user.String())
	if err != nil {
		a.log(r.id).WithError(err).Debug("A member's display name could not be read")
		return ""
	}
	var member map[string]any
	_ = json.Unmarshal(content, &member)
	name, _ := member["displayname"].(string)
	if r.names == nil {
		r.names = make(map[id.UserID]string)
	}
	r.names[user] = name
	return name
}

// crowd says whether a room has more members than the bot and one other. If that
// can't be found out, it has.
func (a *adapter) crowd(r *room) bool {
	if r.members == nil {
		var response *mautrix.RespJoinedMembers
		if _, err := a.session.Try(a.ctx, func(ctx context.Context) (err error) {
			response, err = a.client.JoinedMembers(ctx, r.id)
			if err == nil && response == nil {
				err = session.Missing("joined")
			}
			return err
		}); a.ctx.Err() != nil {
			return true
		} else if err != nil {
			a.log(r.id).WithError(err).Warn("The room's members could not be read; only messages that mention the bot are heard there")
			return true
		}
		r.members = make(map[id.UserID]bool)
		for user := range response.Joined {
			r.members[user] = true
		}
	}
	return len(r.members) > 2
}
