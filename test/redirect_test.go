package test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// overTLS puts a server in front of the homeserver that speaks TLS with it, and returns
// its URL, and a client that trusts it.
func overTLS(t testing.TB, base string) (string, *http.Client) {
	t.Helper()
	target, err := url.Parse(base)
	require.NoError(t, err)
	return serveTLS(t, &httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ErrorLog: log.New(io.Discard, "", 0),
	})
}

func serveTLS(t testing.TB, handler http.Handler) (string, *http.Client) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	client := server.Client()
	t.Cleanup(client.CloseIdleConnections)
	return server.URL, client
}

var redirects = []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect}

// A homeserver that sends http to https is followed there with the request as it is:
// net/http alone would make a GET of a PUT or POST.
func TestRedirectToHTTPS(t *testing.T) {
	bot := rig.Register(t)
	room := bot.NewRoom(t)
	// What a GET of the state event would be answered with passes for an event ID.
	bot.Put(t, room, "", map[string]string{"event_id": "$value"})
	for _, status := range redirects {
		front := rig.Proxy(t)
		base, trusting := overTLS(t, rig.Shared(t).URL())
		front.Inject(homeserver.Fault{Do: homeserver.Redirect(status, base)})
		log, kept := rig.KeepLog()
		memory := rig.Open(t, matrix.Config{
			Homeserver: front.URL(), UserID: bot.UserID.String(), Password: bot.Password, DefaultRoom: room.String(), Timeout: 15 * time.Second,
		}, matrix.WithHTTPClient(trusting), matrix.WithLogger(log))
		require.NoError(t, memory.Set("status", []byte(http.StatusText(status))))
		require.Contains(t, bot.Standing(t, room)[""], "status")
		_, err := memory.Delete("status")
		require.NoError(t, err)
		require.JSONEq(t, `{"event_id":"$value"}`, bot.Standing(t, room)[""])
		require.NoError(t, memory.Close())
		require.Equal(t, 1, strings.Count(kept.String(), front.URL()+" redirects to "+base), "it is said once")
	}
}

// Nothing of a request goes to another host, another port of the same one, or from https to
// http: Open says at once where the homeserver redirects to.
func TestRedirectElsewhere(t *testing.T) {
	rig.NoLeaks(t)
	bot := rig.Register(t)
	front, other := rig.Proxy(t), rig.Proxy(t)
	secure, trusting := overTLS(t, front.URL())
	for name, test := range map[string]struct{ from, to string }{
		"another host":  {front.URL(), strings.Replace(other.URL(), "127.0.0.1", "localhost", 1)},
		"another port":  {front.URL(), other.URL()},
		"https to http": {secure, other.URL()},
	} {
		for _, status := range redirects {
			t.Run(name+" "+http.StatusText(status), func(t *testing.T) {
				remove := front.Inject(homeserver.Fault{Do: homeserver.Redirect(status, test.to)})
				defer remove()
				memory := matrix.New(matrix.Config{
					Homeserver: test.from, UserID: bot.UserID.String(), Password: bot.Password, DefaultRoom: bot.NewRoom(t).String(), Timeout: 15 * time.Second,
				}, matrix.WithHTTPClient(trusting), matrix.WithLogger(rig.Log(t)))
				rig.Within(t, slack, "the error", func() {
					require.ErrorContains(t, memory.Open(t.Context()), test.from+" redirects to "+test.to+": if that is the homeserver, put it into homeserver")
				})
				require.Empty(t, other.Requests(), "the password stays here")
			})
		}
	}
}

// Once the memory is open, the homeserver's URL is known to be right, and a redirect is like
// any page: it is waited out, and nothing follows it.
func TestRedirectWhileRunning(t *testing.T) {
	front, portal := rig.Proxy(t), rig.Proxy(t)
	r := behind(t, front, rig.Register(t), 5*time.Second, matrix.OneStateKey)
	for _, status := range redirects {
		front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 2, Do: homeserver.Redirect(status, portal.URL())})
		require.NoError(t, r.Set("status", []byte(http.StatusText(status))))
	}
	front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Redirect(http.StatusFound, portal.URL())})
	err := r.Set("tea", []byte(`"secret"`))
	r.Failed(t, err, "set", "tea")
	require.ErrorContains(t, err, front.URL()+" redirects to "+portal.URL())
	require.NotErrorIs(t, err, matrix.ErrUnknownOutcome, "who redirects does nothing else")
	require.Empty(t, portal.Requests())
}

// Redirects that lead nowhere are told of.
func TestRedirectInACircle(t *testing.T) {
	front := rig.Proxy(t)
	bot := rig.Register(t)
	front.Inject(homeserver.Fault{Do: homeserver.Redirect(http.StatusFound, front.URL())})
	conf := bot.Config(bot.NewRoom(t))
	conf.Homeserver = front.URL()
	rig.Within(t, slack, "the error", func() {
		require.ErrorContains(t, matrix.New(conf, matrix.WithLogger(rig.Log(t))).Open(t.Context()), front.URL()+" redirects over and over")
	})
}

// The program's own client may make a GET of a PUT, which is answered with what stands in
// the room, or with a 404. Neither counts.
func TestRedirectOfAProgramsClient(t *testing.T) {
	bot := rig.Register(t)
	full, empty := bot.NewRoom(t), bot.NewRoom(t)
	bot.Put(t, full, "", map[string]string{"event_id": "$value"})
	front := rig.Proxy(t)
	front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Redirect(http.StatusFound, rig.Shared(t).URL())})
	client, err := mautrix.NewClient(front.URL(), bot.UserID, bot.AccessToken)
	require.NoError(t, err)
	memory := rig.Open(t, matrix.Config{DefaultRoom: full.String(), Timeout: 10 * time.Second}, matrix.WithClient(client))
	for _, room := range []id.RoomID{full, empty} {
		handle := memory.InRoom(room.String())
		err := handle.Set("tea", "green")
		require.ErrorContains(t, err, front.URL()+" redirects to "+rig.Shared(t).URL())
		require.NotErrorIs(t, err, matrix.ErrUnknownRoom)
		found, err := handle.Get("tea", nil)
		require.NoError(t, err)
		require.False(t, found)
	}
	client.Client.CloseIdleConnections()
}

// The look-up of a homeserver is tried again like any request, and may be redirected to
// another host, but not to one that anybody could pass for.
func TestLookUp(t *testing.T) {
	bot := rig.Register(t)
	conf := bot.Config(bot.NewRoom(t))
	conf.Timeout = 10 * time.Second
	var answers atomic.Pointer[[]http.HandlerFunc]
	base, trusting := serveTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/matrix/client" && r.URL.Path != "/moved" {
			http.NotFound(w, r)
			return
		}
		left := *answers.Load()
		next := left[1:]
		if len(next) > 0 {
			answers.Store(&next)
		}
		left[0](w, r)
	}))
	says := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	found := says(http.StatusOK, `{"m.homeserver":{"base_url":"`+rig.Shared(t).URL()+`"}}`)
	open := func(then ...http.HandlerFunc) error {
		answers.Store(&then)
		conf.Homeserver = strings.TrimPrefix(base, "https://")
		memory := matrix.New(conf, matrix.WithHTTPClient(trusting), matrix.WithLogger(rig.Log(t)))
		err := memory.Open(t.Context())
		require.NoError(t, memory.Close())
		return err
	}
	for name, fault := range map[string]http.HandlerFunc{
		"unavailable": says(http.StatusServiceUnavailable, "<html>"),
		"rate limit":  says(http.StatusTooManyRequests, "<html>"),
		"forbidden":   says(http.StatusForbidden, "<html>"),
		"page":        says(http.StatusOK, "<html>"),
		"empty":       says(http.StatusOK, ""),
		"other JSON":  says(http.StatusOK, "{}"),
		"null":        says(http.StatusOK, "null"),
		"reset":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		require.NoError(t, open(fault, fault, found), name)
	}
	// What httptest calls example.com is the same server, whose certificate is for that as well.
	require.NoError(t, open(redirect("https://example.com/moved"), found))
	rig.Within(t, slack, "the error", func() {
		err := open(redirect("http://elsewhere.example/"))
		require.ErrorContains(t, err, "looking up the homeserver of "+conf.Homeserver)
		require.ErrorContains(t, err, "redirects to http://elsewhere.example")
	})
	conf.Timeout = 3 * time.Second
	require.ErrorContains(t, open(says(http.StatusOK, "{}")), "has no base_url")
}
