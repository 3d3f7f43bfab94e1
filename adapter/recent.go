package adapter

import (
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// Recent holds the IDs of the events that were last seen in a room.
type recent struct {
	ids   map[id.EventID]bool
	order []id.EventID
}

// remembered is how many IDs are held besides those that are kept: more than a
// gap may bring. A variable for the tests.
var remembered = 1000

func (s *recent) has(eventID id.EventID) bool { return s.ids[eventID] }

func (s *recent) empty() bool { return len(s.ids) == 0 }

// keep adds events for good.
func (s *recent) keep(events ...*event.Event) {
	if s.ids == nil {
		s.ids = make(map[id.EventID]bool)
	}
	for _, evt := range events {
		s.ids[evt.ID] = true
	}
}

func (s *recent) add(events ...*event.Event) {
	if s.ids == nil {
		s.ids = make(map[id.EventID]bool)
	}
	for _, evt := range events {
		if evt.ID == "" || s.ids[evt.ID] {
			continue
		}
		s.ids[evt.ID] = true
		s.order = append(s.order, evt.ID)
		if len(s.order) > remembered {
			delete(s.ids, s.order[0])
			s.order = s.order[1:]
		}
	}
}
