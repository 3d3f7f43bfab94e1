package session_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/internal/session"
)

// outages are ways in which a homeserver is away. Where one is true, nobody answers at all.
var outages = map[string]struct {
	homeserver.Action
	cut bool
}{
	"black hole": {homeserver.BlackHole(), true},
	"reset":      {homeserver.ResetBefore(), true},
	"page":       {homeserver.Page(http.StatusBadGateway), false},
	"portal":     {homeserver.Redirect(http.StatusFound, "http://portal.invalid"), false},
	"trouble":    {homeserver.Status(http.StatusServiceUnavailable, nil, `{"errcode":"M_UNKNOWN","error":"in trouble"}`), false},
	"in a hurry": {homeserver.RateLimit(2 * time.Second), false},
}

// behind opens a session of an account behind a proxy in the background, with a log that is kept.
func behind(t *testing.T, account rig.Account, front *homeserver.Proxy, change func(*session.Options), aliases map[string]id.RoomID) (*connection, *rig.Buffer) {
	t.Helper()
	log, kept := rig.KeepLog()
	c := &connection{Session: session.New(session.NewClient(), false), Front: front}
	opts := session.Options{
		Homeserver:  front.URL(),
		AccessToken: account.AccessToken,
		Types:       []event.Type{rig.MemoryType, event.StatePowerLevels, event.StateEncryption, event.StateCreate},
		Recent:      rig.MemoryType,
		Timeout:     3 * time.Second,
		Log:         log,
		Update:      c.update,
		Anew:        c.begun,
	}
	if change != nil {
		change(&opts)
	}
	require.NoError(t, c.OpenBehind(opts, session.Known{User: account.UserID, Aliases: aliases}))
	t.Cleanup(func() {
		c.Close()
		if t.Failed() {
			t.Log(kept.String())
		}
	})
	return c, kept
}

// A learnt is what a session has told of aliases.
type learnt struct {
	mu    sync.Mutex // owns rooms
	rooms map[string][]id.RoomID
}

func (l *learnt) note(alias string, room id.RoomID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rooms == nil {
		l.rooms = make(map[string][]id.RoomID)
	}
	l.rooms[alias] = append(l.rooms[alias], room)
}

func (l *learnt) of(alias string) []id.RoomID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rooms[alias]
}

// While the homeserver is away, what is known counts, what is not waits and then says why it
// could not be had. When the homeserver is back, all is as if it had been there.
func TestBehind(t *testing.T) {
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			account, front := rig.Register(t), rig.Proxy(t)
			room, later := account.NewRoom(t), account.NewRoom(t)
			stays, moves, gone := account.NewAlias(t, room).String(), account.NewAlias(t, later).String(), "#gone:"+account.UserID.Homeserver()
			back := front.Inject(homeserver.Fault{Do: outage.Action})
			var told learnt
			c, log := behind(t, account, front, func(opts *session.Options) { opts.Learnt = told.note },
				map[string]id.RoomID{stays: room, moves: room, gone: room})
			require.True(t, c.IsOpen())
			require.False(t, c.IsConnected())
			require.Equal(t, account.UserID, c.Client().UserID)

			for _, alias := range []string{stays, moves, gone} {
				known, err := c.Resolve(t.Context(), alias)
				require.NoError(t, err)
				require.Equal(t, room, known)
			}
			begun := time.Now()
			_, _, err := c.Standing(t.Context(), room, event.StatePowerLevels, "")
			require.ErrorContains(t, err, "the homeserver could not be reached since "+time.Now().Format("2006-01-02"))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.GreaterOrEqual(t, time.Since(begun), 3*time.Second)
			require.Less(t, time.Since(begun), 6*time.Second)
			require.False(t, session.IsStatus(err, http.StatusServiceUnavailable), "what is known says nothing of the room")
			short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err = c.Snapshot(short, room)
			require.ErrorContains(t, err, "could not be reached since")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Zero(t, c.count(inRoom("state")), "it asks nothing before it is logged in")
			eventually(t, func() bool { return strings.Contains(log.String(), "The homeserver can't be reached") }, "the warning")
			eventually(t, func() bool { return c.IsUnreachable() == outage.cut }, "it knows whether somebody answers")
			if outage.cut { // and somebody does by now, in trouble
				trouble := front.Inject(homeserver.Fault{Do: outages["trouble"].Action})
				back()
				back = trouble
				eventually(t, func() bool { return !c.IsUnreachable() }, "it knows that somebody answers")
				require.False(t, c.IsConnected())
			}
			ended, end := context.WithCancel(t.Context())
			end()
			require.ErrorIs(t, c.Reach(ended), context.Canceled)

			waiting := make(chan error, 1)
			go func() { waiting <- c.Reach(t.Context()) }()
			back()
			require.NoError(t, <-waiting)
			require.True(t, c.IsConnected())
			_, found, err := c.Standing(t.Context(), room, event.StatePowerLevels, "")
			require.NoError(t, err)
			require.True(t, found)
			c.follows(t, account, room, 1)
			require.Equal(t, 1, c.Anew(), "what is known of rooms has to be compared")
			require.False(t, c.IsUnreachable())
			eventually(t, func() bool { now, err := c.Resolve(t.Context(), moves); return err == nil && now == later }, "the alias leads elsewhere")
			eventually(t, func() bool { return strings.Contains(log.String(), "is gone") }, "an alias that is gone")
			for alias, want := range map[string]id.RoomID{stays: room, gone: room} {
				known, err := c.Resolve(t.Context(), alias)
				require.NoError(t, err)
				require.Equal(t, want, known)
			}
			require.Equal(t, []id.RoomID{later}, told.of(moves))
			require.Empty(t, told.of(stays))
			require.Equal(t, 1, strings.Count(log.String(), "The homeserver can't be reached"))
			require.Equal(t, 1, strings.Count(log.String(), `level=info msg="The homeserver can be reached, and the bot is connected"`))
		})
	}
}

// Where the homeserver is there, a session is connected in no time, and says nothing of it.
func TestBehindWithNoOutage(t *testing.T) {
	account := rig.Register(t)
	c, log := behind(t, account, rig.Proxy(t), nil, nil)
	require.NoError(t, c.Reach(t.Context()))
	c.follows(t, account, account.NewRoom(t), 1)
	require.NotContains(t, log.String(), "level=warning")
	require.NotContains(t, log.String(), "level=info")
	require.Equal(t, account.DeviceID, c.Client().DeviceID)
}

// A homeserver that nobody has started answers no connection at all. It is killed and started
// again at each step.
func TestBehindAServerThatIsKilled(t *testing.T) {
	rig.NoLeaks(t)
	server := rig.Own(t)
	account := server.NewAccount(t)
	room := account.NewRoom(t)
	front := server.Proxy(t)
	require.NoError(t, server.Stop())
	nobody := httptest.NewServer(http.NotFoundHandler())
	nobody.Close()

	c, log := behind(t, account, front, func(opts *session.Options) { opts.Homeserver = nobody.URL }, nil)
	eventually(t, func() bool { return strings.Contains(log.String(), "connection refused") }, "the warning")
	require.True(t, c.IsUnreachable())
	c.Close()

	c, log = behind(t, account, front, func(opts *session.Options) { opts.Homeserver = server.URL() }, nil)
	eventually(t, func() bool { return strings.Contains(log.String(), "can't be reached") }, "the warning")
	require.NoError(t, server.Restart(t.Context()))
	require.NoError(t, c.Reach(t.Context()))
	c.Close()

	for n, step := range []func(*http.Request) bool{path("/account/whoami"), path("/sync")} {
		reached, release := make(chan struct{}), make(chan struct{})
		front.Inject(homeserver.Fault{Match: step, Times: 1, Do: homeserver.PauseBefore(reached, release)})
		c, _ := behind(t, account, front, nil, nil)
		<-reached
		require.NoError(t, server.Kill(front))
		close(release)
		require.NoError(t, server.Restart(t.Context()))
		require.NoError(t, c.Reach(t.Context()))
		c.follows(t, account, room, n)
		c.Close()
	}
}

// path matches the requests with this end of their path.
func path(end string) func(*http.Request) bool {
	return func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, end) }
}

// byPassword has a session log in by password, and do something then.
func byPassword(account rig.Account, then func(context.Context) error) func(*session.Options) {
	return func(opts *session.Options) {
		opts.AccessToken, opts.UserID, opts.Password, opts.LoggedIn = "", account.UserID.String(), account.Password, then
	}
}

// devices returns the devices that the account has.
func devices(t *testing.T, account rig.Account) (all []id.DeviceID) {
	t.Helper()
	response, err := account.GetDevicesInfo(t.Context())
	require.NoError(t, err)
	for _, device := range response.Devices {
		all = append(all, device.DeviceID)
	}
	return all
}

// Wherever it stands, a session ends at once, and nothing is left: no goroutine, and no device
// that was made for it, unless there is nobody who could be told.
func TestCloseBehind(t *testing.T) {
	asking := func(c **connection) func(context.Context) error { // as encryption does
		return func(ctx context.Context) error {
			_, _, err := (*c).Standing(ctx, "!nowhere:localhost", event.StateCreate, "")
			if session.IsStatus(err, http.StatusForbidden) || session.IsStatus(err, http.StatusNotFound) {
				err = nil
			}
			return err
		}
	}
	for moment, match := range map[string]func(*http.Request) bool{
		"login":      path("/login"),
		"logged in":  inRoom("state"),
		"first sync": first,
	} {
		for name, outage := range map[string]homeserver.Action{
			"black hole": homeserver.BlackHole(), "reset": homeserver.ResetBefore(), "page": homeserver.Page(http.StatusBadGateway),
		} {
			t.Run(moment+" "+name, func(t *testing.T) {
				rig.NoLeaks(t)
				account, front := rig.Register(t), rig.Proxy(t)
				front.Inject(homeserver.Fault{Match: match, Do: outage})
				var c *connection
				begun := make(chan struct{})
				c, _ = behind(t, account, front, byPassword(account, func(ctx context.Context) error { <-begun; return asking(&c)(ctx) }), nil)
				close(begun)
				waiting := make(chan error, 1)
				go func() { _, err := c.Resolve(t.Context(), "#unknown:localhost"); waiting <- err }()
				eventually(t, func() bool { return c.count(match) > 0 }, "it stands there")
				rig.Within(t, 2*time.Second, "the end", c.Close)
				require.ErrorIs(t, <-waiting, session.ErrClosed)
				require.Equal(t, []id.DeviceID{account.DeviceID}, devices(t, account))
				c.Client().Client.CloseIdleConnections()
			})
		}
	}
	t.Run("between two attempts", func(t *testing.T) {
		rig.NoLeaks(t)
		account, front := rig.Register(t), rig.Proxy(t)
		front.Inject(homeserver.Fault{Do: homeserver.ResetBefore()})
		c, _ := behind(t, account, front, func(opts *session.Options) { opts.Timeout = 100 * time.Millisecond }, nil)
		eventually(t, func() bool { return c.count(path("/account/whoami")) > 3 }, "it tries again")
		rig.Within(t, time.Second, "the end", c.Close)
	})
	t.Run("at once", func(t *testing.T) {
		rig.NoLeaks(t)
		c, _ := behind(t, rig.Register(t), rig.Proxy(t), nil, nil)
		rig.Within(t, time.Second, "the end", c.Close)
	})
	t.Run("when the homeserver has gone", func(t *testing.T) {
		rig.NoLeaks(t)
		account, front := rig.Register(t), rig.Proxy(t)
		c, log := behind(t, account, front, func(opts *session.Options) {
			byPassword(account, nil)(opts)
			opts.Timeout = 9 * time.Second
		}, nil)
		require.NoError(t, c.Reach(t.Context()))
		front.Inject(homeserver.Fault{Do: homeserver.BlackHole()})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // more than one attempt has
		defer cancel()
		_, _, err := c.Standing(ctx, "!room:localhost", event.StateCreate, "")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.True(t, c.IsUnreachable())
		rig.Within(t, 2*time.Second, "the end", c.Close)
		require.Contains(t, log.String(), "Could not log out")
		require.Len(t, devices(t, account), 2)
	})
	t.Run("in a handler", func(t *testing.T) {
		rig.NoLeaks(t)
		account, front := rig.Register(t), rig.Proxy(t)
		c := &connection{Session: session.New(session.NewClient(), false), Front: front}
		closed := make(chan struct{})
		c.Client().Syncer.(*mautrix.DefaultSyncer).OnSync(func(context.Context, *mautrix.RespSync, string) bool {
			c.Close()
			close(closed)
			return true
		})
		opts := session.Options{Homeserver: front.URL(), Timeout: 5 * time.Second, Log: rig.Log(t), Update: c.update, Anew: c.begun}
		byPassword(account, nil)(&opts)
		require.NoError(t, c.OpenBehind(opts, session.Known{User: account.UserID}))
		<-closed
		c.Close() // waits for the loop
		require.Equal(t, []id.DeviceID{account.DeviceID}, devices(t, account))
	})
}

// Logins whose answers are lost leave no more than one device behind, and what follows the login
// does not begin with another.
func TestLoginsBehind(t *testing.T) {
	account, front := rig.Register(t), rig.Proxy(t)
	front.Inject(homeserver.Fault{Match: path("/login"), Times: 5, Do: homeserver.ResetAfter()})
	front.Inject(homeserver.Fault{Match: first, Times: 4, Do: homeserver.BlackHole()}) // more than the time of one round
	failures := 3
	c, _ := behind(t, account, front, byPassword(account, func(context.Context) error {
		if failures--; failures >= 0 {
			return mautrix.HTTPError{WrappedError: errors.New("as if nobody had answered")}
		}
		return nil
	}), nil)
	require.NoError(t, c.Reach(t.Context()))
	require.Equal(t, -1, failures, "what follows the login is done once")
	require.Equal(t, 3, c.count(path("/account/whoami")), "it is asked before that is tried again")
	require.Equal(t, 6, c.count(path("/login")))
	require.ElementsMatch(t, []id.DeviceID{account.DeviceID, c.Client().DeviceID}, devices(t, account))
	c.Close()
	require.Equal(t, []id.DeviceID{account.DeviceID}, devices(t, account))
}

// What no waiting helps against is an error in the log that says so, and what waits is told.
func TestRefusedBehind(t *testing.T) {
	account, other := rig.Register(t), rig.Register(t)
	_, err := other.Logout(t.Context())
	require.NoError(t, err)
	for name, test := range map[string]struct {
		change func(*session.Options)
		want   string
	}{
		"wrong password": {func(opts *session.Options) { byPassword(account, nil)(opts); opts.Password = "wrong" }, "login as " + account.UserID.String()},
		"dead token":     {func(opts *session.Options) { opts.AccessToken = other.AccessToken }, "make a new one, or use a password"},
		"other account":  {func(opts *session.Options) { opts.AccessToken = rig.Register(t).AccessToken }, "what it remembers is of " + account.UserID.String()},
		"encryption": {func(opts *session.Options) {
			opts.LoggedIn = func(context.Context) error { return errors.New("as the test says") }
		}, "as the test says"},
	} {
		t.Run(name, func(t *testing.T) {
			rig.NoLeaks(t)
			c, log := behind(t, account, rig.Proxy(t), test.change, nil)
			eventually(t, func() bool { return strings.Contains(log.String(), "waiting does not help") }, "the error")
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			err := c.Reach(ctx)
			require.ErrorContains(t, err, "the bot could not connect to the homeserver since")
			require.ErrorContains(t, err, test.want)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.False(t, session.IsStatus(err, http.StatusForbidden), "it is not what a room answers")
			require.False(t, c.IsUnreachable())
			require.Contains(t, log.String(), test.want)
			require.NotContains(t, log.String(), "can't be reached;")
			rig.Within(t, 2*time.Second, "the end", c.Close)
		})
	}
	require.Len(t, devices(t, account), 1)
}

// A fault of the settings is said at once.
func TestSettingsBehind(t *testing.T) {
	rig.NoLeaks(t)
	const user = "@bot:localhost"
	open := func(opts session.Options) error {
		opts.Log, opts.Timeout = rig.Log(t), time.Second
		s := session.New(session.NewClient(), false)
		defer s.Close()
		err := s.OpenBehind(opts, session.Known{User: user})
		require.False(t, s.IsOpen())
		return err
	}
	require.ErrorContains(t, open(session.Options{Homeserver: "http://localhost", UserID: "@other:localhost", Password: "x"}), "mxid is @other:localhost, and what is known is of "+user)
	require.ErrorContains(t, open(session.Options{Homeserver: "http://local host", AccessToken: "x"}), `homeserver "http://local host"`)

	client := session.NewClient()
	client.Syncer = nil
	require.ErrorContains(t, session.New(client, false).OpenBehind(session.Options{Homeserver: "http://localhost"}, session.Known{}), "the client's syncer was replaced")
}

// A program's own client is connected by the program; only the aliases are from before.
func TestOwnClientBehind(t *testing.T) {
	rig.NoLeaks(t)
	account := rig.Register(t)
	room, later := account.NewRoom(t), account.NewRoom(t)
	alias := account.NewAlias(t, later).String()
	client := session.NewClient()
	client.HomeserverURL, client.UserID, client.AccessToken, client.Client = account.HomeserverURL, account.UserID, account.AccessToken, account.Client.Client
	client.Syncer = mautrix.NewDefaultSyncer()
	opts := session.Options{Timeout: 5 * time.Second, Log: rig.Log(t)}

	s := session.New(client, true)
	require.ErrorContains(t, s.OpenBehind(opts, session.Known{User: "@other:localhost"}), "is logged in as "+account.UserID.String())
	s.Close()
	s = session.New(client, true)
	require.NoError(t, s.OpenBehind(opts, session.Known{User: account.UserID, Aliases: map[string]id.RoomID{alias: room}}))
	require.True(t, s.IsConnected())
	eventually(t, func() bool { now, err := s.Resolve(t.Context(), alias); return err == nil && now == later }, "the alias leads elsewhere")
	s.Close()
	account.Client.Client.CloseIdleConnections()
}
