package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
)

func showCommand() *cli.Command {
	return &cli.Command{
		Name:        "show",
		Usage:       "print the raw state events of the memory, as JSON lines",
		Description: "They are what the homeserver gives: all of the memory's event type, whatever single_state_key\nsays, sorted by state key. Encrypted values stand there as the IDs of the events that hold them.",
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if _, err := arguments(cmd, 0, 0); err != nil {
				return err
			}
			conf, err := settings(cmd)
			if err != nil {
				return err
			}
			in, err := logIn(ctx, conf, conf.AccessToken == "", reading)
			if err != nil {
				return err
			}
			defer in.out(cmd)
			room, err := in.resolve(ctx, conf, conf.DefaultRoom)
			if err != nil {
				return err
			}
			events, err := in.currentState(ctx, cmd, conf, room)
			if err != nil {
				return err
			}
			for _, evt := range memoryEvents(conf, events) {
				var line bytes.Buffer
				if err := json.Compact(&line, evt.raw); err != nil {
					return err
				}
				if _, err := fmt.Fprintln(cmd.Root().Writer, line.String()); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// resolve returns the room that is meant by a name of the settings, an alias or an ID.
func (l *login) resolve(ctx context.Context, conf matrix.Config, room string) (id.RoomID, error) {
	if target, named := conf.Rooms[room]; named {
		room = target
	}
	if !strings.HasPrefix(room, "#") {
		return id.RoomID(room), nil
	}
	found, err := l.ResolveAlias(ctx, id.RoomAlias(room))
	if err != nil {
		return "", fmt.Errorf("looking up the alias %s: %w", room, err)
	}
	return found.RoomID, nil
}

// A stateEvent is one of a room's state.
type stateEvent struct {
	Type     string          `json:"type"`
	StateKey string          `json:"state_key"`
	Sender   id.UserID       `json:"sender"`
	ID       id.EventID      `json:"event_id"`
	Content  json.RawMessage `json:"content"`
	raw      json.RawMessage
}

// state returns the state of a room that the bot is in.
func (l *login) state(ctx context.Context, room id.RoomID) ([]stateEvent, error) {
	var all []json.RawMessage
	if _, err := l.MakeRequest(ctx, http.MethodGet, l.BuildClientURL("v3", "rooms", room, "state"), nil, &all); err != nil {
		return nil, fmt.Errorf("reading the state of room %s: %w", room, err)
	}
	events := make([]stateEvent, len(all))
	for i, raw := range all {
		if err := json.Unmarshal(raw, &events[i]); err != nil {
			return nil, fmt.Errorf("the state of room %s has a malformed event: %w", room, err)
		}
		events[i].raw = raw
	}
	return events, nil
}

// currentState returns the state of a room, or of the one that replaces it if the memory goes there. It says so.
func (l *login) currentState(ctx context.Context, cmd *cli.Command, conf matrix.Config, room id.RoomID) ([]stateEvent, error) {
	for range maxUpgrades {
		events, err := l.state(ctx, room)
		if err != nil {
			return nil, err
		}
		by := replacement(events, room)
		if by == "" || conf.FollowUpgrades != matrix.On {
			return events, nil
		}
		joined, err := l.joined(ctx)
		switch {
		case err != nil:
			return nil, err
		case !slices.Contains(joined, by):
			say(cmd, "room %s was upgraded to %s, where the bot is not: these are the events of the former", room, by)
			return events, nil
		}
		say(cmd, "room %s was upgraded to %s: these are the events of the latter; with follow_upgrades: false show prints the former's", room, by)
		room = by
	}
	return l.state(ctx, room)
}

// memoryEvents returns those of the memory's type, sorted by state key.
func memoryEvents(conf matrix.Config, events []stateEvent) []stateEvent {
	events = slices.DeleteFunc(slices.Clone(events), func(evt stateEvent) bool { return evt.Type != eventType(conf) })
	slices.SortFunc(events, func(a, b stateEvent) int { return cmp.Compare(a.StateKey, b.StateKey) })
	return events
}

// eventType is the type of the memory's state events.
func eventType(conf matrix.Config) string { return cmp.Or(conf.EventType, "dev.opsdroid.database") }
