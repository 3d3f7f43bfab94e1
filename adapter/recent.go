package adapter

// Recent holds the IDs that came last, and those that are kept.
type recent[ID comparable] struct {
	ids   map[ID]bool
	order []ID
}

// remembered is how many IDs are held besides those that are kept: more than the
// events that a gap may bring. A variable for the tests.
var remembered = 1000

func (s *recent[ID]) has(id ID) bool { return s.ids[id] }

func (s *recent[ID]) empty() bool { return len(s.ids) == 0 }

// keep adds an ID for good.
func (s *recent[ID]) keep(id ID) {
	if s.ids == nil {
		s.ids = make(map[ID]bool)
	}
	s.ids[id] = true
}

func (s *recent[ID]) add(id ID) {
	if s.has(id) {
		return
	}
	s.keep(id)
	s.order = append(s.order, id)
	if len(s.order) > remembered {
		delete(s.ids, s.order[0])
		s.order = s.order[1:]
	}
}
