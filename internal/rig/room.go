package rig

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// A RoomOption says what a new room is like: [Encrypted], [Writable], [Public] and the like, or
// an [Account] that is a member of it.
type RoomOption interface{ shape(*plan) }

// A plan is what a new room is to be like.
type plan struct {
	mautrix.ReqCreateRoom
	members []Account
}

func (a Account) shape(p *plan) {
	p.members = append(p.members, a)
	p.Invite = append(p.Invite, a.UserID)
}

type roomOption func(*plan)

func (o roomOption) shape(p *plan) { o(p) }

var (
	// Encrypted makes a room encrypted.
	Encrypted RoomOption = roomOption(func(p *plan) {
		p.InitialState = append(p.InitialState, &event.Event{
			Type:     event.StateEncryption,
			StateKey: new(string),
			Content:  event.Content{Parsed: &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}},
		})
	})
	// Writable lets every member write the room's memory.
	Writable RoomOption = roomOption(func(p *plan) {
		p.levels().Events = map[string]int{MemoryType.Type: 0}
	})
	// Plain lets every member write the room's memory, and only moderators send encrypted events.
	Plain RoomOption = roomOption(func(p *plan) {
		p.levels().Events = map[string]int{MemoryType.Type: 0, event.EventEncrypted.Type: 50}
	})
	// Public lets everybody join a room.
	Public RoomOption = roomOption(func(p *plan) { p.Preset = "public_chat" })
)

// Powers gives members of a room a power level each, the account that makes it included.
func Powers(users map[id.UserID]int) RoomOption {
	return roomOption(func(p *plan) { p.levels().Users = users })
}

// Invited invites an account to a room, which it may join by itself.
func Invited(account Account) RoomOption {
	return roomOption(func(p *plan) { p.Invite = append(p.Invite, account.UserID) })
}

// levels returns what is to be otherwise in the room's power levels.
func (p *plan) levels() *event.PowerLevelsEventContent {
	if p.PowerLevelOverride == nil {
		p.PowerLevelOverride = &event.PowerLevelsEventContent{}
	}
	return p.PowerLevelOverride
}

// Crowded gives a room so many state events of 4 KB that are nobody's memory.
func Crowded(events int) RoomOption {
	return roomOption(func(p *plan) {
		for i := range events {
			stateKey := fmt.Sprint(i)
			p.InitialState = append(p.InitialState, &event.Event{
				Type:     event.Type{Type: "org.example.foreign", Class: event.StateEventType},
				StateKey: &stateKey,
				Content:  event.Content{Raw: map[string]any{"text": strings.Repeat("x", 4000)}},
			})
		}
	})
}

// NewRoom makes a room that belongs to the account, a private one if nothing else is said.
func (a Account) NewRoom(t testing.TB, options ...RoomOption) id.RoomID {
	t.Helper()
	p := plan{ReqCreateRoom: mautrix.ReqCreateRoom{Preset: "private_chat"}}
	for _, option := range options {
		option.shape(&p)
	}
	room, err := a.CreateRoom(t.Context(), &p.ReqCreateRoom)
	require.NoError(t, err)
	for _, member := range p.members {
		_, err := member.JoinRoomByID(t.Context(), room.RoomID)
		require.NoError(t, err)
	}
	return room.RoomID
}

// NewAlias gives a room an alias.
func (a Account) NewAlias(t testing.TB, room id.RoomID) id.RoomAlias {
	t.Helper()
	alias := id.NewRoomAlias("r"+strings.ToLower(rand.Text()), a.UserID.Homeserver())
	_, err := a.CreateAlias(t.Context(), alias, room)
	require.NoError(t, err)
	return alias
}
