package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/session"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// nearlyFull is from how many percent on an event counts as full.
const nearlyFull = 80

// maxUpgrades is how many upgrades of a room are followed at most, as they may lead in a circle.
const maxUpgrades = 10

// A roomStatus says how the memory of a room is.
type roomStatus struct {
	Name       string `json:"name"` // in the settings, or as -room has it
	Alias      string `json:"alias,omitempty"`
	Room       string `json:"room,omitempty"`
	Joined     bool   `json:"joined"`
	ReplacedBy string `json:"replaced_by,omitempty"` // the room that its tombstone names
	Has        int    `json:"power_level"`
	Needs      int    `json:"power_level_needed"`
	Encrypted  bool   `json:"encrypted"`
	Keys       int    `json:"keys"`
	Sealed     int    `json:"encrypted_values"`
	Readable   *int   `json:"readable_values,omitempty"` // of them; nil: it was not looked
	Why        string `json:"not_looked,omitempty"`      // why it was not
	Bytes      int    `json:"bytes"`                     // of all of the memory's events
	Full       int    `json:"full_percent"`              // the fullest event
	problems
}

// examineRoom looks at a room, or at the one that replaces it if the memory goes there.
func examineRoom(ctx context.Context, in *login, conf matrix.Config, name string) *roomStatus {
	found := &roomStatus{Name: name}
	target := cmp.Or(conf.Rooms[name], name)
	switch {
	case strings.HasPrefix(target, "#"):
		found.Alias = target
	case !strings.HasPrefix(target, "!"):
		found.add(fmt.Sprintf("the settings have no room %q", name), "add it to rooms, or name another one")
		return found
	}
	room, err := in.resolve(ctx, conf, name)
	switch {
	case errors.Is(err, mautrix.MNotFound):
		found.add("the homeserver knows no alias "+target, "correct it in the settings, or give a room that alias")
		return found
	case err != nil:
		found.add(err.Error(), "try again")
		return found
	}
	for range maxUpgrades {
		next := found.examine(ctx, in, conf, room)
		if next == "" {
			break
		}
		room = next
	}
	return found
}

// examine looks at a room by its ID, and returns the one where the memory has gone from there.
func (r *roomStatus) examine(ctx context.Context, in *login, conf matrix.Config, room id.RoomID) (next id.RoomID) {
	joined, err := in.joined(ctx)
	if err != nil {
		r.add(err.Error(), "try again")
		return ""
	}
	r.Room, r.Joined = room.String(), slices.Contains(joined, room)
	if !r.Joined {
		r.add("the bot is not in it", "start the bot, which joins it if it may; else invite "+in.UserID.String()+", or make the room public")
		return ""
	}
	state, err := in.state(ctx, room)
	if err != nil {
		r.add(err.Error(), "try again")
		return ""
	}
	if by := replacement(state, room); by != "" {
		r.ReplacedBy = by.String()
		switch {
		case conf.FollowUpgrades == matrix.On && slices.Contains(joined, by):
			return by
		case conf.FollowUpgrades == matrix.On:
			r.add("it was upgraded, and the bot is not in "+by.String()+", which replaces it", "start the bot, which goes there if it may; else invite "+in.UserID.String()+" there")
		default:
			r.add("it was upgraded: "+by.String()+" replaces it, and follow_upgrades is off", "name the new room in the settings, or switch follow_upgrades on")
		}
	}
	r.Encrypted = find(state, event.StateEncryption) != nil
	r.power(in.UserID, conf, state)
	r.content(in.UserID, conf, state)
	return ""
}

// replacement returns the room that a room's tombstone names.
func replacement(state []stateEvent, room id.RoomID) id.RoomID {
	if tombstone := find(state, event.StateTombstone); tombstone != nil {
		return session.Replacement(tombstone.Content, room)
	}
	return ""
}

// find returns the state event of a type under the empty state key.
func find(state []stateEvent, eventType event.Type) *stateEvent {
	i := slices.IndexFunc(state, func(evt stateEvent) bool { return evt.Type == eventType.Type && evt.StateKey == "" })
	if i < 0 {
		return nil
	}
	return &state[i]
}

// power looks whether the bot may write.
func (r *roomStatus) power(user id.UserID, conf matrix.Config, state []stateEvent) {
	levels := &event.PowerLevelsEventContent{}
	standing := find(state, event.StatePowerLevels)
	if standing == nil {
		r.Has, r.Needs = 100, 0
		return
	}
	levels, err := session.ParseLevels(standing.Content)
	if err != nil {
		r.add("its power levels are malformed", "set them anew with a Matrix client")
		return
	}
	if create := find(state, event.StateCreate); create != nil {
		parsed := &event.Event{Type: event.StateCreate, Sender: create.Sender, Content: event.Content{VeryRaw: create.Content}}
		if parsed, err = session.ParseCreate(parsed); err == nil {
			levels.CreateEvent = parsed
		}
	}
	memory := event.Type{Type: eventType(conf), Class: event.StateEventType}
	r.Has, r.Needs = min(levels.GetUserLevel(user), math.MaxInt32), levels.GetEventLevel(memory)
	r.mayNot(memory, r.Needs)
	if r.Encrypted && conf.ShouldEncrypt == matrix.On { // values are events of their own
		r.mayNot(event.EventEncrypted, levels.GetEventLevel(event.EventEncrypted))
	}
}

// mayNot says that the bot may not send a type of event, if it may not.
func (r *roomStatus) mayNot(eventType event.Type, needs int) {
	if r.Has < needs {
		r.add(fmt.Sprintf("the bot can't write: it has power level %d, and %s events need %d", r.Has, eventType.Type, needs),
			"raise the one or lower the other in the room's settings, with a Matrix client")
	}
}

// content looks at what the room's memory holds.
func (r *roomStatus) content(user id.UserID, conf matrix.Config, state []stateEvent) {
	layout := wire.Layout{StateKey: string(conf.SingleStateKey)}
	if conf.SingleStateKey == matrix.PerKey {
		layout = wire.Layout{PerKey: true}
	}
	for _, evt := range memoryEvents(conf, state) {
		dictionary, err := layout.Decode(evt.StateKey, evt.Content)
		switch {
		case errors.Is(err, wire.ErrForeign):
			continue
		case err != nil:
			r.add(fmt.Sprintf("the event under the state key %q, of %s, can't be read: %v", evt.StateKey, evt.Sender, err),
				"look at it with show, and have whatever wrote it write it anew; the memory does not overwrite it")
			continue
		}
		size := wire.CanonicalSize(evt.Content)
		percent := size * 100 / wire.EventLimit(r.Room, user.String(), evt.Type, evt.StateKey)
		r.Keys += len(dictionary.Entries)
		r.Bytes += size
		r.Full = max(r.Full, percent)
		for key, entry := range dictionary.Entries {
			if entry.Pointer != "" {
				r.Sealed++
			}
			if entry.Err != nil {
				r.add(fmt.Sprintf("the value of %q can't be read: %v", key, entry.Err), "set it anew, or delete it")
			}
		}
		if percent >= nearlyFull {
			r.add(fmt.Sprintf("the event under the state key %q is %d %% full", evt.StateKey, percent),
				"delete keys, make values smaller, or copy the memory to a layout that has more room (single_state_key: false)")
		}
	}
}

// joined returns the rooms that the bot is in, as they are when it is asked first.
func (l *login) joined(ctx context.Context) ([]id.RoomID, error) {
	if l.rooms == nil {
		response, err := l.JoinedRooms(ctx)
		if err != nil {
			return nil, fmt.Errorf("asking which rooms the bot is in: %w", err)
		}
		l.rooms = response.JoinedRooms
	}
	return l.rooms, nil
}
