package matrix_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A tracer is a transport of the program's own.
type tracer struct {
	requests atomic.Int32
	closed   atomic.Int32
}

func (tr *tracer) RoundTrip(r *http.Request) (*http.Response, error) {
	tr.requests.Add(1)
	return plain.RoundTrip(r)
}

func (tr *tracer) CloseIdleConnections() { tr.closed.Add(1) }

// plain keeps no connections, so that no test leaves some.
var plain = &http.Transport{DisableKeepAlives: true}

// All requests, those of the login among them, are made with the program's own http.Client,
// which stays the program's own. Its timeout is not used: no sync could wait for news.
func TestWithHTTPClient(t *testing.T) {
	bot := rig.Register(t)
	room := bot.NewRoom(t)
	front := rig.Proxy(t)
	transport := &tracer{}
	own := &http.Client{Transport: transport, Timeout: time.Nanosecond}
	log, kept := rig.KeepLog()
	conf := bot.Config(room)
	conf.Homeserver, conf.AccessToken = front.URL(), ""
	conf.UserID, conf.Password = bot.UserID.String(), bot.Password
	memory := matrix.New(conf, matrix.WithHTTPClient(own), matrix.WithLogger(log))
	require.NoError(t, memory.Open(t.Context()))
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	bot.Put(t, room, "", map[string]string{"tea": "black"})
	eventually(t, func() bool {
		value, _, err := memory.Get("tea")
		return err == nil && string(value) == `"black"`
	}, "the news comes")
	require.NotContains(t, kept.String(), "Sync fails")
	require.NoError(t, memory.Close())
	require.LessOrEqual(t, len(front.Requests()), int(transport.requests.Load()), "no request goes another way") // a sync can be cut off before it leaves
	require.Zero(t, transport.closed.Load(), "the program's connections are its own")
	require.Equal(t, time.Nanosecond, own.Timeout)
	require.Same(t, transport, own.Transport)
}

// A program may replace http.DefaultTransport by one of any type.
func TestReplacedDefaultTransport(t *testing.T) {
	before, transport := http.DefaultTransport, &tracer{}
	t.Cleanup(func() { http.DefaultTransport = before })
	bot := rig.Register(t)
	room := bot.NewRoom(t)
	http.DefaultTransport = transport
	memory := rig.Open(t, bot.Config(room))
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, memory.Close())
	require.Positive(t, transport.requests.Load(), "it is the program's choice")
}

// The program's client follows redirects, or does not, as the program has it.
func TestWithHTTPClientKeepsItsRedirectPolicy(t *testing.T) {
	bot := rig.Register(t)
	conf := bot.Config(bot.NewRoom(t))
	front := rig.Proxy(t)
	conf.Homeserver = front.URL()
	front.Inject(homeserver.Fault{Times: 1, Do: homeserver.Status(http.StatusTemporaryRedirect, http.Header{"Location": {front.URL() + "/elsewhere"}}, "")})
	asked := 0 // by Open's first request, before any other goroutine is there
	own := &http.Client{Transport: plain, CheckRedirect: func(*http.Request, []*http.Request) error {
		asked++
		return http.ErrUseLastResponse
	}}
	rig.Open(t, conf, matrix.WithHTTPClient(own)) // it tries again
	require.Equal(t, 1, asked)
}

// What does not go together is said at once.
func TestOptionsThatExclude(t *testing.T) {
	bot := rig.Register(t)
	memory := matrix.New(bot.Config(bot.NewRoom(t)), matrix.WithClient(bot.Client), matrix.WithHTTPClient(http.DefaultClient))
	require.ErrorContains(t, memory.Open(t.Context()), "leave out either WithClient or WithHTTPClient")
}

func TestWithClientOfNothing(t *testing.T) {
	bot := rig.Register(t)
	memory := matrix.New(bot.Config(bot.NewRoom(t)), matrix.WithClient(nil), matrix.WithLogger(rig.Log(t)))
	require.NotNil(t, memory.Client())
	require.ErrorContains(t, memory.Open(t.Context()), "WithClient was given no client")
	require.NoError(t, memory.Close())
}
