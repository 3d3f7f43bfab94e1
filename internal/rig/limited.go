package rig

import (
	"net/http"
	"strings"
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
// that may send SendsAtOnce events and then one after each pause. That is what Synapse has as it
// comes, with a pause of SendPause; where the software has no limits, the proxy has them, with
// the pause that is given, and takes all who send for one user. prepare, which may be nil, does
// before what takes more events. every is the pause.
func Limited(t testing.TB, pause time.Duration, prepare func(Server)) (own Server, front *homeserver.Proxy, every time.Duration) {
	t.Helper()
	software, err := homeserver.FromEnvironment()
	require.NoError(t, err)
	if software != homeserver.Synapse {
		own = Stock(t)
		if prepare != nil {
			prepare(own)
		}
		front = own.Proxy(t)
		front.Inject(homeserver.Fault{Match: Sends, Do: homeserver.Limit(SendsAtOnce, pause)})
		return own, front, pause
	}
	opts := homeserver.Options{Dir: t.TempDir(), Software: software, Progress: t.Output()}
	if prepare != nil {
		free, err := homeserver.Start(t.Context(), opts)
		require.NoError(t, err)
		prepare(Server{free})
		require.NoError(t, free.Stop())
	}
	opts.DefaultRateLimits = true
	limited, err := homeserver.Start(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, limited.Stop()) })
	own = Server{limited}
	return own, own.Proxy(t), SendPause
}

// Sends matches what a homeserver counts as sent by an account: messages, state events and
// redactions.
func Sends(r *http.Request) bool {
	return homeserver.StateWrite(r) || homeserver.EventSend(r) || r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/redact/")
}
