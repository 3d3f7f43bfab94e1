package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

const (
	password = "matrix-memory"
	// patience is how long a person waits for an answer.
	patience = 30 * time.Second
)

// invited are the names of the rooms that the bot is invited to.
var invited = []string{"kitchen", "workshop"}

// memoryType is the type of the state events that keep a room's memory.
var memoryType = event.Type{Type: "dev.opsdroid.database", Class: event.StateEventType}

// A stage is a homeserver with two people, two rooms, and an account for the bot.
type stage struct {
	server *homeserver.Server
	bot    matrix.Config
	robot  *mautrix.Client // another client of the bot's account
	people map[string]*mautrix.Client
	rooms  map[string]id.RoomID // the bot's default room among them
}

func build(ctx context.Context, server *homeserver.Server) (*stage, error) {
	s := &stage{server: server, people: make(map[string]*mautrix.Client), rooms: make(map[string]id.RoomID)}
	robot, err := server.Register(ctx, "bot", password)
	if err != nil {
		return nil, err
	}
	if s.robot, err = mautrix.NewClient(server.URL(), id.UserID(robot.UserID), robot.AccessToken); err != nil {
		return nil, err
	}
	home, err := s.robot.CreateRoom(ctx, &mautrix.ReqCreateRoom{Name: "the bot's default room", Preset: "private_chat"})
	if err != nil {
		return nil, err
	}
	s.rooms["default"] = home.RoomID
	s.bot = matrix.Config{
		Homeserver:  server.URL(),
		AccessToken: robot.AccessToken,
		Rooms:       map[string]string{"main": home.RoomID.String()},
	}
	for _, name := range []string{"alice", "bob"} {
		account, err := server.Register(ctx, name, password)
		if err != nil {
			return nil, err
		}
		if s.people[name], err = mautrix.NewClient(server.URL(), id.UserID(account.UserID), account.AccessToken); err != nil {
			return nil, err
		}
	}
	for _, name := range invited {
		if err := s.addRoom(ctx, name); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// addRoom makes a room with both people in it, and invites the bot, which joins by itself.
func (s *stage) addRoom(ctx context.Context, name string) error {
	alice, bob := s.people["alice"], s.people["bob"]
	room, err := alice.CreateRoom(ctx, &mautrix.ReqCreateRoom{
		Name:   name,
		Preset: "private_chat",
		Invite: []id.UserID{bob.UserID, s.robot.UserID},
		// The bot needs the right to write its memory: this type of state event only.
		PowerLevelOverride: &event.PowerLevelsEventContent{Events: map[string]int{memoryType.Type: 0}},
	})
	if err != nil {
		return err
	}
	s.rooms[name] = room.RoomID
	_, err = bob.JoinRoomByID(ctx, room.RoomID)
	return err
}

// script is what the people say.
var script = []struct{ room, person, text string }{
	{"kitchen", "alice", "remember the best tool is the whisk"},
	{"workshop", "bob", "remember the best tool is the hammer"},
	{"kitchen", "bob", "what is the best tool?"},
	{"workshop", "alice", "what is the best tool?"},
	{"workshop", "alice", "remember lunch is at noon"},
	{"kitchen", "bob", "what is lunch?"},
}

// play has the people talk with the bot, and prints what is said as Alice sees it.
func (s *stage) play(ctx context.Context, out io.Writer) error {
	alice := s.people["alice"]
	present, answers := make(chan struct{}, len(invited)), make(chan string)
	syncer := alice.Syncer.(*mautrix.DefaultSyncer)
	syncer.OnEventType(event.StateMember, func(_ context.Context, evt *event.Event) {
		if evt.GetStateKey() == s.robot.UserID.String() && evt.Content.AsMember().Membership == event.MembershipJoin {
			present <- struct{}{}
		}
	})
	syncer.OnEventType(event.EventMessage, func(ctx context.Context, evt *event.Event) {
		if evt.Sender == s.robot.UserID {
			select {
			case answers <- evt.Content.AsMessage().Body:
			case <-ctx.Done():
			}
		}
	})
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() { _ = alice.SyncWithContext(ctx) }) // ends with the context
	defer following.Wait()
	defer cancel()

	for range invited {
		if _, err := wait(ctx, present, "the bot to join"); err != nil {
			return err
		}
	}
	for _, line := range script {
		fmt.Fprintf(out, "%-10s %-6s %s\n", line.room, line.person, line.text)
		if _, err := s.people[line.person].SendText(ctx, s.rooms[line.room], line.text); err != nil {
			return err
		}
		answer, err := wait(ctx, answers, "an answer")
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%-10s %-6s %s\n", line.room, "bot", answer)
	}
	return nil
}

func wait[T any](ctx context.Context, from <-chan T, what string) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("waited %s for %s", patience, what))
	defer cancel()
	select {
	case got := <-from:
		return got, nil
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// states prints the state events in which the rooms keep their memories.
func (s *stage) states(ctx context.Context, out io.Writer) error {
	fmt.Fprintf(out, "\nEach room keeps its own memory, in its state event of type %s (dev.joe.write says when keys were changed):\n", memoryType.Type)
	for _, name := range append(invited, "default") {
		state, err := s.robot.State(ctx, s.rooms[name])
		if err != nil {
			return err
		}
		if len(state[memoryType]) == 0 {
			fmt.Fprintf(out, "%-10s none\n", name)
		}
		for stateKey, evt := range state[memoryType] {
			fmt.Fprintf(out, "%-10s state key %q: %s\n", name, stateKey, evt.Content.VeryRaw)
		}
	}
	return nil
}

// invite says how to join in.
func (s *stage) invite(out io.Writer) {
	fmt.Fprintf(out, `
Join in with any Matrix client on this machine:
  homeserver  %s
  user        alice (or bob)
  password    %s
and say "remember tea is green" or "what is tea" in one of the rooms.
Ctrl-C ends it all.
`, s.server.URL(), password)
}
