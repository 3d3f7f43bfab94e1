package room

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// access is what a room's state says of what the bot may do there, and how.
type access struct {
	encryption bool
	levels     *event.PowerLevelsEventContent // nil: the room has none; with what create says of creators
	create     *event.Event
}

// attach has the power levels know who created the room.
func (a *access) attach() {
	if a.levels != nil {
		a.levels = a.levels.Clone() // others may be reading it
		a.levels.CreateEvent = a.create
	}
}

// note takes over a state event that decides on access.
func (r *Room) note(evt *event.Event) {
	if evt.GetStateKey() != "" {
		return // it says nothing of the room
	}
	if evt.Type.Type == event.StateTombstone.Type {
		r.tombstone(evt)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch evt.Type.Type {
	case event.StateEncryption.Type:
		// A room never becomes unencrypted again, whatever its state says:
		// https://spec.matrix.org/v1.16/client-server-api/#mroomencryption
		r.access.encryption = true
	case event.StateCreate.Type:
		if create, err := session.ParseCreate(evt); err == nil {
			r.access.create = create
			r.access.attach()
		}
	case event.StatePowerLevels.Type:
		if levels, err := session.ParseLevels(evt.Content.VeryRaw); err == nil {
			r.access.levels = levels
			r.access.attach()
		}
	}
}

// rights returns what decides whether what is sent is refused.
func (r *Room) rights() access {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.access
}

// encrypted says whether values go out encrypted: commit.Env's Encrypted.
func (r *Room) encrypted() (bool, error) {
	r.mu.RLock()
	now := r.access.encryption
	r.mu.RUnlock()
	switch {
	case !r.rooms.Encrypt:
		return false, nil
	case r.rooms.Cipher != nil:
		ever, err := r.rooms.Cipher.Encrypted(r.id, now)
		if err != nil {
			return true, fmt.Errorf("%w; nothing was sent", err)
		}
		return ever, nil
	case now:
		return true, fmt.Errorf("%w: the room is encrypted, and should_encrypt is on; nothing was sent in the clear", ErrNoEncryption)
	}
	return false, nil
}

// lack says which power level the bot has and which it needs to write, if that
// is too low.
func (r *Room) lack() string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	have, need := r.access.power(r.rooms.userID(), r.rooms.EventType)
	if have >= need {
		return ""
	}
	return fmt.Sprintf("the bot has power level %d, and %s state events need %d: raise the one or lower the other", have, r.rooms.EventType.Type, need)
}

// power returns a user's power level, and the one that a type of event needs:
// https://spec.matrix.org/v1.16/client-server-api/#mroompower_levels
func (a access) power(user id.UserID, eventType event.Type) (have, need int) {
	if a.levels == nil {
		return math.MaxInt, 0
	}
	return a.levels.GetUserLevel(user), a.levels.GetEventLevel(eventType)
}

// warn says at the first use of a room that the bot can't write there.
func (r *Room) warn() {
	if lack := r.lack(); lack != "" {
		r.log().Warn("The memory of this room can't be written: " + lack)
	}
}

// moreMay says whether anybody may write the memory, or the power levels, in a room who could write neither in
// the one that it replaces.
func (r *Room) moreMay(old *Room) bool {
	now, before := r.rights(), old.rights()
	users := []id.UserID{""} // who is named nowhere

	// The old levels may hold somebody down whom the new ones don't name.
	for _, levels := range []*event.PowerLevelsEventContent{now.levels, before.levels} {
		if levels != nil {
			users = slices.AppendSeq(users, maps.Keys(levels.Users))
		}
	}
	if now.create != nil {
		users = append(users, now.create.Sender)
		if content, ok := now.create.Content.Parsed.(*event.CreateEventContent); ok {
			users = append(users, content.AdditionalCreators...)
		}
	}
	return slices.ContainsFunc(users, func(user id.UserID) bool {
		return now.lets(user, r.rooms.EventType) && !before.lets(user, r.rooms.EventType)
	})
}

// lets says whether a user may send state events of a type, or of the power levels, so that they may let themselves.
func (a access) lets(user id.UserID, eventType event.Type) bool {
	have, need := a.power(user, eventType)
	_, levels := a.power(user, event.StatePowerLevels)
	return have >= min(need, levels)
}
