package session

import (
	"encoding/json"
	"strconv"
	"strings"

	"maunium.net/go/mautrix/event"
)

// ParseLevels reads power levels, the content of an m.room.power_levels event:
// https://spec.matrix.org/v1.16/client-server-api/#mroompower_levels
// Before room version 10 they may be strings: https://spec.matrix.org/v1.16/rooms/v9/#event-format
func ParseLevels(content json.RawMessage) (*event.PowerLevelsEventContent, error) {
	var members map[string]any
	if err := json.Unmarshal(content, &members); err != nil {
		return nil, err
	}
	number(members)
	numbers, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	levels := &event.PowerLevelsEventContent{}
	if err := json.Unmarshal(numbers, levels); err != nil {
		return nil, err
	}
	return levels, nil
}

// number makes numbers of those levels that are strings.
func number(members map[string]any) {
	for name, level := range members {
		switch level := level.(type) {
		case string:
			if n, err := strconv.Atoi(strings.TrimSpace(level)); err == nil {
				members[name] = n
			}
		case map[string]any:
			number(level)
		}
	}
}

// ParseCreate returns a copy of an m.room.create event with its content parsed, from which power
// levels (CreateEvent) know who created the room. It fails if the content can't be parsed.
func ParseCreate(evt *event.Event) (*event.Event, error) {
	content := &event.CreateEventContent{}
	if err := json.Unmarshal(evt.Content.VeryRaw, content); err != nil {
		return nil, err
	}
	create := *evt
	create.Content = event.Content{VeryRaw: evt.Content.VeryRaw, Parsed: content}
	return &create, nil
}
