package rig

import "github.com/go-joe/matrix-memory/internal/homeserver"

// Kill ends the server in the midst of what it does for the clients of the proxies.
//
// Dendrite gets to finish the changes that are under way, and to write down what it has in
// memory: killed, it loses events that it has acknowledged, as the queue between its parts
// is written a little later, and may never hand out another one or let a new room be read.
func (s Server) Kill(fronts ...*homeserver.Proxy) error {
	if s.Software() != homeserver.Dendrite {
		return s.Server.Kill()
	}
	for _, front := range fronts {
		defer front.Hold()()
	}
	return s.Stop()
}
