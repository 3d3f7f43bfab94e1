package session

import (
	"context"

	"maunium.net/go/mautrix/id"
)

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

// Prepare sets what a session that is not opened makes its attempts by.
func (s *Session) Prepare(opts Options) { s.Options, s.pace.timeout = opts, opts.Timeout }

// Waiting returns how many turns wait at the pace.
func (s *Session) Waiting() int {
	s.pace.mu.Lock()
	defer s.pace.mu.Unlock()
	return len(s.pace.waiting)
}

// TryPart tries to send an event that is part of a write of which another follows.
func (s *Session) TryPart(ctx context.Context, room id.RoomID, attempt func(context.Context) error) error {
	_, err := s.tryLoggedIn(ctx, &turn{place: place{Write, room}, part: true}, attempt)
	return err
}
