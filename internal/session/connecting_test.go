package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"
	"pgregory.net/rapid"

	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/internal/session"
)

// A script is a homeserver in memory that goes wrong as a test says. Its account is @bot:x.
type script struct {
	mu       sync.Mutex      // owns what follows
	fault    func() error    // of the next request; a reply is the answer
	logins   map[string]bool // the devices that are logged in
	requests map[string]int  // by what they are about
	user     string          // who logs in
	writes   []string        // the hosts that were written to
}

// A reply is what a script answers in place of what it should.
type reply struct {
	status int
	body   string
}

func (reply) Error() string { return "is answered" }

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests == nil {
		s.requests, s.logins = make(map[string]int), make(map[string]bool)
	}
	what := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	s.requests[what]++
	var instead reply
	if s.fault != nil {
		err := s.fault()
		if errors.Is(err, errLost) {
			s.answer(r, what)
		}
		if err != nil && !errors.As(err, &instead) {
			return nil, err
		}
	}
	if instead.status == 0 {
		instead = reply{http.StatusOK, s.answer(r, what)}
	}
	return &http.Response{StatusCode: instead.status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(instead.body)), Request: r}, nil
}

func (s *script) answer(r *http.Request, what string) string {
	user := s.user
	if user == "" {
		user = "@bot:x"
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if r.Method == http.MethodPut {
		s.writes = append(s.writes, r.URL.Host)
		return `{"event_id":"$event"}`
	}
	switch what {
	case "client": // .well-known
		return `{"m.homeserver":{"base_url":"https://matrix.x"}}`
	case "login":
		var login struct {
			Device string `json:"device_id"`
		}
		_ = json.NewDecoder(r.Body).Decode(&login)
		s.logins[login.Device] = true
		return fmt.Sprintf(`{"user_id":%q,"device_id":%q,"access_token":"token of %s"}`, user, login.Device, login.Device)
	case "logout":
		delete(s.logins, strings.TrimPrefix(token, "token of "))
		return `{}`
	case "whoami":
		return fmt.Sprintf(`{"user_id":%q,"device_id":"D"}`, user)
	case "sync":
		if r.URL.Query().Has("since") {
			s.mu.Unlock() // it waits for news
			<-r.Context().Done()
			s.mu.Lock()
		}
		return `{"next_batch":"s1"}`
	}
	return `{}`
}

// count returns how many requests there were about something.
func (s *script) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[what]
}

// goesWrong has requests go wrong from now on.
func (s *script) goesWrong(fault func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// devices returns how many devices are logged in.
func (s *script) devices() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.logins)
}

func always(err error) func() error { return func() error { return err } }

var (
	errLost   = errors.New("the answer is lost")
	noRoute   = &net.OpError{Op: "dial", Err: errors.New("no route to host")}
	badGate   = reply{http.StatusBadGateway, "<html>"}
	forbidden = reply{http.StatusForbidden, `{"errcode":"M_FORBIDDEN","error":"Invalid password"}`}
	limited   = reply{http.StatusTooManyRequests, `{"errcode":"M_LIMIT_EXCEEDED","error":"slowly","retry_after_ms":90000}`}
)

// open opens a session on the script in the background.
func (s *script) open(t testing.TB, change func(*session.Options)) (*session.Session, *rig.Buffer) {
	log, kept := rig.KeepLog()
	opts := session.Options{
		Homeserver: "x", UserID: "@bot:x", Password: "secret", HTTPClient: &http.Client{Transport: s},
		Timeout: 45 * time.Second, Log: log, Update: func(session.Update) {}, Anew: func() {},
	}
	if change != nil {
		change(&opts)
	}
	c := session.New(session.NewClient(), false)
	require.NoError(t, c.OpenBehind(opts, session.Known{User: "@bot:x"}))
	return c, kept
}

// A homeserver that is away for days is asked now and then, and the log says it once; when it is
// back, the bot is so within a minute. Its name is looked up first.
func TestLongOutage(t *testing.T) {
	for name, fault := range map[string]error{"no route": noRoute, "bad gateway": badGate, "limited": limited} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				homeserver := &script{fault: always(fault)}
				c, log := homeserver.open(t, nil)
				defer c.Close()
				time.Sleep(2 * time.Hour)
				tries := homeserver.count("client")
				require.Greater(t, tries, 2*60/3, "it hardly tries")
				require.Less(t, tries, 2*60*5, "it tries too often")
				if fault == limited {
					require.LessOrEqual(t, tries, 2*60*60/90+1, "it does not wait as it is told")
				}
				require.Equal(t, 1, strings.Count(log.String(), "level=warning"))
				require.NotContains(t, log.String(), "level=error")
				require.NotContains(t, log.String(), "level=info")
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				require.ErrorContains(t, c.Reach(ctx), "the homeserver could not be reached since 2000-01-01 ")

				homeserver.goesWrong(nil)
				bound := time.Minute
				if fault == limited {
					bound = 2 * time.Minute // as it says
				}
				begun := time.Now()
				require.NoError(t, c.Reach(t.Context()))
				require.Less(t, time.Since(begun), bound)
				require.Equal(t, "https://matrix.x", c.Client().HomeserverURL.String())
			})
		})
	}
}

// What is written while the homeserver is away, and its address not known, goes there once it is.
func TestWritesWaitForTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		homeserver := &script{fault: always(noRoute)}
		c, _ := homeserver.open(t, nil)
		defer c.Close()
		written := make(chan error)
		go func() {
			_, err := c.Send(t.Context(), nil, "!room:x", rig.MemoryType, []byte(`{}`))
			written <- err
		}()
		go func() {
			_, _, err := c.PutState(t.Context(), nil, "!room:x", rig.MemoryType, "", []byte(`{}`), func() error { return nil })
			written <- err
		}()
		time.Sleep(10 * time.Second)
		homeserver.goesWrong(nil)
		require.NoError(t, <-written)
		require.NoError(t, <-written)
		require.Equal(t, []string{"matrix.x", "matrix.x"}, homeserver.writes)
	})
}

// Who may not log in tries that seldom, as homeservers and the account's owner may take it amiss,
// and is told of it once; if the password is put right after all, the bot connects.
func TestWrongPasswordForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		homeserver := &script{fault: always(forbidden)}
		c, log := homeserver.open(t, func(opts *session.Options) { opts.Homeserver = "https://x" })
		defer c.Close()
		time.Sleep(24 * time.Hour)
		require.Greater(t, homeserver.count("login"), 12)
		require.Less(t, homeserver.count("login"), 60)
		require.Equal(t, 1, strings.Count(log.String(), "level=error"))
		require.Contains(t, log.String(), "login as @bot:x at https://x: M_FORBIDDEN (HTTP 403): Invalid password")
		require.NotContains(t, log.String(), "level=warning")
		require.NotContains(t, log.String(), "secret")
		homeserver.goesWrong(nil)
		require.NoError(t, c.Reach(t.Context()))
		require.Equal(t, 1, strings.Count(log.String(), "level=info"))
	})
}

// Whatever goes wrong on the way, in whatever order: once nothing does, the bot is connected, as
// one device, which is gone when it has ended.
func TestWayToTheConnection(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		faults := rapid.SliceOfN(rapid.SampledFrom([]error{nil, nil, noRoute, badGate, forbidden, limited, errLost, context.DeadlineExceeded}), 0, 40).Draw(rt, "faults")
		failing := rapid.SliceOfN(rapid.Bool(), 0, 5).Draw(rt, "whether encryption fails")
		closing := time.Duration(rapid.IntRange(0, 600).Draw(rt, "seconds to Close")) * time.Second
		stays := rapid.Bool().Draw(rt, "no Close before it is connected")
		var faulty []string
		synctest.Test(t, func(t *testing.T) {
			check := func(holds bool, what string) {
				if !holds {
					faulty = append(faulty, what)
				}
			}
			homeserver := &script{}
			homeserver.fault = func() (err error) {
				if len(faults) > 0 {
					err, faults = faults[0], faults[1:]
				}
				return err
			}
			begun := 0 // how often encryption has succeeded; the loop's until it is connected or closed
			c, log := homeserver.open(t, func(opts *session.Options) {
				opts.LoggedIn = func(context.Context) error {
					fails := len(failing) > 0 && failing[0]
					failing = failing[min(1, len(failing)):]
					if fails {
						return errors.New("as the test says")
					}
					begun++
					return nil
				}
			})
			if stays {
				check(c.Reach(t.Context()) == nil, "it does not connect")
				check(begun == 1, "encryption begins not once")
				check(homeserver.devices() == 1, "it is not logged in as one device")
			} else {
				time.Sleep(closing)
			}
			homeserver.goesWrong(nil)
			c.Close()
			check(begun <= 1, "encryption begins twice")
			check(homeserver.devices() == 0 || !stays && homeserver.devices() == 1, "a device is left") // which it may not have heard of
			check(strings.Count(log.String(), "can't be reached;") <= 1, "it is warned twice")
		})
		require.Empty(rt, faulty)
	})
}

// What is done on the way to the connection is waited for, however long that takes: it may use what
// is closed after the session.
func TestCloseWaitsForTheSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var over bool
		c, _ := new(script).open(t, func(opts *session.Options) {
			opts.LoggedIn = func(context.Context) error {
				time.Sleep(time.Hour)
				over = true
				return nil
			}
		})
		time.Sleep(time.Minute)
		c.Close()
		require.True(t, over)
	})
}

// The credentials of another account are of no use for what is known of this one, and leave no
// device there.
func TestLoggedInAsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		homeserver := &script{user: "@other:x"}
		c, log := homeserver.open(t, nil)
		defer c.Close()
		time.Sleep(10 * time.Minute)
		require.Contains(t, log.String(), "the bot is logged in as @other:x, and what it remembers is of @bot:x")
		require.Zero(t, homeserver.devices())
		require.Equal(t, id.UserID("@bot:x"), c.Client().UserID)
		require.False(t, c.IsConnected())
	})
}
