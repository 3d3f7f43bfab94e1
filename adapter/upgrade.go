package adapter

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// Upgrades are the rooms that replace others that the bot is in. All is owned by adapter.mu.
type upgrades struct {
	ahead map[id.RoomID]*session.Upgrade // by the new room: the bot is on its way, or waits for an invitation
	there map[id.RoomID]bool             // new rooms that the bot has come to, which was told, or was in from the start
	heirs map[id.RoomID]id.RoomID        // by the old room: the new one that the bot has come to; "": it is not checked
}

// followAgain is how long the bot waits after it could not follow for a reason that may pass. A
// variable for the tests.
var followAgain = 10 * time.Minute

// buried returns the room that, by what a sync brought of a room, replaces it; "" if nothing says so.
func buried(roomID id.RoomID, joined *mautrix.SyncJoinedRoom) (replacement id.RoomID) {
	events := slices.Concat(joined.State.Events, joined.Timeline.Events)
	if joined.StateAfter != nil {
		events = append(events, joined.StateAfter.Events...)
	}
	for _, evt := range events {
		if evt.Type.Type == event.StateTombstone.Type && evt.StateKey != nil && *evt.StateKey == "" {
			replacement = cmp.Or(session.Replacement(evt.Content.VeryRaw, roomID), replacement)
		}
	}
	return replacement
}

// bury notes the rooms that a sync says are replaced. It comes before the sync's other news of rooms,
// with a.mu held.
func (a *adapter) bury(rooms map[id.RoomID]*mautrix.SyncJoinedRoom) {
	for roomID, joined := range rooms {
		replacement := buried(roomID, joined)
		if replacement == "" || a.closed {
			continue
		}
		r, there := a.room(roomID), a.rooms[replacement]
		if !r.in && (rooms[replacement] != nil || there != nil && there.in) && !a.session.HasFollowed(replacement) {
			a.upgrades.there[replacement], a.upgrades.heirs[roomID] = true, "" // that was long ago
			continue
		}
		r.buried = true
	}
}

// follow goes to the room that replaces one, if any does and the bot has not come there before. The old
// room's lane calls it, when all else is handled.
func (a *adapter) follow(r *room) {
	defer session.Survive(a.log(r.id), "following where the room was upgraded")
	if !a.session.FollowUpgrades {
		return
	}
	u, err := a.session.Upgraded(a.ctx, r.id)
	if u != nil && err == nil {
		err = a.comeAlong(u)
	}
	if err != nil {
		a.stays(r.id, err)
	}
}

// comeAlong goes to a room that replaces another, unless the bot has come there before. The new room's
// lane waits for that, and tells of it before anything else from there.
func (a *adapter) comeAlong(u *session.Upgrade) error {
	n := news{joining: &joining{}}
	a.mu.Lock()
	if a.upgrades.there[u.New] {
		a.upgrades.heirs[u.Old] = ""
		a.mu.Unlock()
		return nil
	}
	a.upgrades.ahead[u.New] = u
	a.push(u.New, n)
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		n.joining.over = true
		a.wake(a.room(u.New))
	}()
	return a.arrive(u, n.joining)
}

// arrive sees to it that the bot is in a room that replaces another, and has what waits for that
// tell of it, once.
func (a *adapter) arrive(u *session.Upgrade, joining *joining) error {
	err := a.session.Follow(a.ctx, u)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.upgrades.there[u.New] { // as it was invited meanwhile
		return nil
	}
	if err == nil || errors.Is(err, session.ErrUntrusted) {
		delete(a.upgrades.ahead, u.New)
	}
	if err != nil {
		return err
	}
	a.upgrades.there[u.New], a.upgrades.heirs[u.Old] = true, u.New
	a.log(u.Old).WithField("replacement", u.New.String()).Info("The room was upgraded, and the bot has followed to the one that replaces it")
	body, _ := u.Tombstone.Content.Raw["body"].(string)
	joining.upgrade = &UpgradeEvent{
		AuthorID:   u.Tombstone.Sender.String(),
		Text:       body,
		Channel:    u.New.String(),
		OldChannel: u.Old.String(),
		Data:       u.Tombstone,
	}
	return nil
}

// stays says why the bot has not followed where a room was upgraded, and what to do. If it may yet
// follow, it tries again after a while.
func (a *adapter) stays(old id.RoomID, err error) {
	log := a.log(old).WithError(err)
	switch {
	case a.ctx.Err() != nil:
	case session.MayPass(err):
		level := logrus.WarnLevel
		if a.triesAgain(old) {
			level = logrus.DebugLevel
		}
		log.Logf(level, "The room was upgraded, and the bot could not follow to the one that replaces it; it tries again every %s", followAgain)
		a.lanes.Go(func() { a.followLater(old) })
	case errors.Is(err, session.ErrUntrusted):
		log.Warn("The room was upgraded, it is said, and the bot does not follow to the one that is to replace it; if it should, invite it there")
	default:
		log.Warn("The room was upgraded, and the bot could not follow to the one that replaces it; invite it there")
	}
}

// triesAgain notes that the bot tries again to follow a room's upgrade, and says whether it does so already.
func (a *adapter) triesAgain(old id.RoomID) (already bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.room(old)
	already, r.retries = r.retries, true
	return already
}

// followLater has the room's lane follow again after a while.
func (a *adapter) followLater(old id.RoomID) {
	select {
	case <-time.After(followAgain):
	case <-a.ctx.Done():
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if r, ok := a.rooms[old]; ok {
		r.buried = true
		a.wake(r)
	}
}

// upgraded returns what replaces those rooms that the bot is in and that others say they replace, as
// far as that is to be trusted; nil for one that nothing replaces so far, as far as is known.
func (a *adapter) upgraded(others []invitation, joined []id.RoomID) map[id.RoomID]*session.Upgrade {
	upgraded := make(map[id.RoomID]*session.Upgrade)
	if !a.session.FollowUpgrades {
		return upgraded
	}
	for _, i := range others {
		if _, asked := upgraded[i.replaces]; asked || !slices.Contains(joined, i.replaces) {
			continue
		}
		if u, err := a.session.Upgraded(a.ctx, i.replaces); !errors.Is(err, session.ErrUntrusted) {
			upgraded[i.replaces] = u
		}
	}
	return upgraded
}

// calls says whether the bot is to go to a room, or has just gone there, as that replaces one that it
// is in. It may hear of that upgrade by an invitation first.
func (a *adapter) calls(room id.RoomID, u *session.Upgrade) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if u != nil && u.New == room && !a.upgrades.there[room] {
		a.upgrades.ahead[room] = u
	}
	return a.upgrades.ahead[room] != nil || a.session.HasFollowed(room)
}

// destination returns the room that is meant by a name, an alias or an ID. Where what a name or an alias
// means was upgraded, that is the room that the bot has followed to. Under its ID a room is
// meant itself, as who goes on to ask there wants the answer there.
func (a *adapter) destination(ctx context.Context, channel string) (id.RoomID, error) {
	room, err := a.session.Resolve(ctx, channel)
	if err != nil || strings.HasPrefix(channel, "!") || !a.session.FollowUpgrades {
		return room, err
	}
	for seen := make(map[id.RoomID]bool); !seen[room]; {
		seen[room] = true
		heir, err := a.heir(ctx, room)
		if heir == "" || err != nil {
			return room, err
		}
		room = heir
	}
	return room, nil
}

// heir returns the room that has replaced one, and that the bot has followed to, or "".
func (a *adapter) heir(ctx context.Context, room id.RoomID) (id.RoomID, error) {
	a.mu.Lock()
	heir, known := a.upgrades.heirs[room]
	a.mu.Unlock()
	if !known || heir != "" {
		return heir, nil
	}
	u, err := a.session.Upgraded(ctx, room)
	if err == nil && u != nil {
		err = a.session.Follow(ctx, u)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err == nil && u != nil:
		a.upgrades.heirs[room] = u.New
	case err == nil || !session.MayPass(err):
		delete(a.upgrades.heirs, room)
		return "", nil
	}
	return a.upgrades.heirs[room], err
}
