package rig

import (
	"context"

	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// Crash kills the server in the midst of what it does, and starts it again. Dendrite gets to
// finish the changes that are under way behind the proxies: its room server gives one that
// it had not finished out again after five minutes, and takes up none of that room's before.
func (s Server) Crash(ctx context.Context, fronts ...*homeserver.Proxy) error {
	if s.Software() == homeserver.Dendrite {
		for _, front := range fronts {
			defer front.Hold()()
		}
	}
	if err := s.Kill(); err != nil {
		return err
	}
	return s.Restart(ctx)
}
