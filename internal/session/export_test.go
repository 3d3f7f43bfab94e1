package session

import "maunium.net/go/mautrix/id"

// Asking returns how many callers wait for a room's next snapshot.
func (s *Session) Asking(room id.RoomID) int {
	s.reads.mu.Lock()
	defer s.reads.mu.Unlock()
	for _, r := range s.reads.waiting {
		if r.room == room {
			return r.asking
		}
	}
	return 0
}
