package rig

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// What a user of a homeserver that limits may send: so many events at once, and then one
// after each pause. It is what Synapse has where nothing else is set.
const (
	SendsAtOnce = 10
	SendPause   = 5 * time.Second
)

// Stock starts a homeserver for one test as it comes: with rate limits, if its software has
// any.
func Stock(t testing.TB) Server {
	t.Helper()
	software, err := homeserver.FromEnvironment()
	require.NoError(t, err)
	started, err := homeserver.Start(t.Context(), homeserver.Options{
		Dir: t.TempDir(), Software: software, DefaultRateLimits: software == homeserver.Synapse, Progress: t.Output(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, started.Stop()) })
	return Server{started}
}

// Limited starts a homeserver for one test, and a proxy in front of it: who sends by way of
// that is limited as on Synapse as it comes. Where the software has no limits, the proxy has
// them, and takes all who send for one user.
func Limited(t testing.TB) (Server, *homeserver.Proxy) {
	t.Helper()
	own := Stock(t)
	front := own.Proxy(t)
	if own.Software() != homeserver.Synapse {
		front.Inject(homeserver.Fault{Match: Sends, Do: homeserver.Limit(SendsAtOnce, SendPause)})
	}
	return own, front
}

// Sends matches requests that send an event of any kind.
func Sends(r *http.Request) bool { return homeserver.StateWrite(r) || homeserver.EventSend(r) }
