package rig

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// A Proxied is a memory behind a fault proxy. What its account does itself goes
// past the proxy.
type Proxied struct {
	Account
	*matrix.Memory
	Front   *homeserver.Proxy
	Room    id.RoomID // the default room
	Timeout time.Duration
}

// Behind opens a memory of the account behind a proxy, in which faults may wait
// already.
func Behind(t testing.TB, front *homeserver.Proxy, bot Account, conf matrix.Config, options ...matrix.Option) Proxied {
	t.Helper()
	conf.Homeserver = front.URL()
	return Proxied{bot, Open(t, conf, options...), front, id.RoomID(conf.Rooms["main"]), conf.Timeout}
}

// Seen returns the requests that the proxy has seen of one kind.
func (p Proxied) Seen(match func(*http.Request) bool) (requests []homeserver.Request) {
	matches := homeserver.Seen(match)
	for _, request := range p.Front.Requests() {
		if matches(request) {
			requests = append(requests, request)
		}
	}
	return requests
}

// Writes returns how many state events the proxy has seen on their way.
func (p Proxied) Writes() int { return len(p.Seen(homeserver.StateWrite)) }

// Failed checks that an error tells all that a matrix.Error promises.
func (p Proxied) Failed(t testing.TB, err error, op, key string) {
	t.Helper()
	var failure *matrix.Error
	require.ErrorAs(t, err, &failure)
	require.Equal(t, op, failure.Op)
	require.Equal(t, p.Room.String(), failure.Room)
	require.Equal(t, key, failure.Key)
	require.ErrorContains(t, err, fmt.Sprintf("%s %q in room %s", op, key, p.Room))
	require.NotContains(t, err.Error(), "secret", "the value must not be in the error")
}

// History returns how many of the memory's events the room has ever had.
func (p Proxied) History(t testing.TB) int {
	t.Helper()
	all, err := p.Messages(t.Context(), p.Room, "", "", mautrix.DirectionBackward, &mautrix.FilterPart{Types: []event.Type{MemoryType}}, 1000)
	require.NoError(t, err)
	return len(all.Chunk)
}
