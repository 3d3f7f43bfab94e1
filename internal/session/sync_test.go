package session_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/internal/session"
)

// first matches the syncs that begin anew.
func first(r *http.Request) bool { return homeserver.Sync(r) && !rig.FollowUp(r) }

// since matches the syncs that go on from a token.
func since(token string) func(*http.Request) bool {
	return func(r *http.Request) bool { return homeserver.Sync(r) && r.URL.Query().Get("since") == token }
}

// tokens returns the tokens of the syncs that were answered, or are under way.
func (c *connection) tokens() (tokens []string) {
	for _, request := range c.Front.Requests() {
		if path, err := url.Parse(request.Path); err == nil && homeserver.Seen(rig.FollowUp)(request) {
			tokens = append(tokens, path.Query().Get("since"))
		}
	}
	return tokens
}

// follows waits until sync brings what is put from now on.
func (c *connection) follows(t *testing.T, account rig.Account, room id.RoomID, n int) {
	t.Helper()
	account.Put(t, room, "", map[string]int{"n": n})
	eventually(t, func() bool {
		all := c.Brought(room)
		return len(all) > 0 && all[len(all)-1] == content(n)
	}, "sync brings %s", content(n))
}

// What is put reaches the session by sync, and no sync that begins anew is like another:
// a homeserver may have kept its answer to that.
func TestSync(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t)
	c := connect(t, account)
	c.follows(t, account, room, 1)
	c.follows(t, account, room, 2)
	require.Zero(t, c.Anew())
	require.Equal(t, 1, c.count(first))
	other := connect(t, account)
	require.NotEqual(t, c.Front.Requests()[1].Path, other.Front.Requests()[1].Path)
	for _, connection := range []*connection{c, other} {
		require.Equal(t, 1, connection.count(first))
	}
}

// A homeserver that does not take the token of a sync, which is what it does after it was
// set up anew or restored, is asked without one; and the session says so.
func TestRefusedToken(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t)
	refusals := map[string]homeserver.Action{
		"M_UNKNOWN_POS":   homeserver.Status(http.StatusBadRequest, nil, `{"errcode":"M_UNKNOWN_POS","error":"Unknown position"}`),
		"M_INVALID_PARAM": homeserver.Status(http.StatusBadRequest, nil, `{"errcode":"M_INVALID_PARAM","error":"malformed sync token"}`),
		// What the homeserver itself says.
		"malformed": func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			query := r.URL.Query()
			query.Set("since", "never given out")
			r.URL.RawQuery = query.Encode()
			server.ServeHTTP(w, r)
		},
	}
	for name, refusal := range refusals {
		t.Run(name, func(t *testing.T) {
			c := connect(t, account)
			c.follows(t, account, room, 1)
			var anew atomic.Bool
			c.Front.Inject(homeserver.Fault{Do: refusal, Match: func(r *http.Request) bool {
				anew.CompareAndSwap(false, first(r))
				return rig.FollowUp(r) && !anew.Load()
			}})
			account.Put(t, room, "", map[string]int{"n": 2}) // ends the sync that is under way
			eventually(t, func() bool { return c.Anew() == 1 }, "sync begins anew")
			c.follows(t, account, room, 3)
			require.Equal(t, 2, c.count(first))
			require.Equal(t, 1, c.Anew())
		})
	}
}

// A homeserver that takes no token at all is asked again and again, with growing pauses.
func TestEveryTokenRefused(t *testing.T) {
	account := rig.Register(t)
	c, room := connect(t, account), account.NewRoom(t)
	c.Front.Inject(homeserver.Fault{Match: rig.FollowUp, Do: homeserver.Status(http.StatusBadRequest, nil, `{"errcode":"M_UNKNOWN_POS","error":"Unknown position"}`)})
	account.Put(t, room, "", map[string]int{"n": 1})
	start := time.Now()
	eventually(t, func() bool { return c.Anew() >= 3 }, "what was read has to be read again")
	require.Less(t, c.count(first), 8)
	require.Greater(t, time.Since(start), time.Second)
}

// Other errors say nothing of the token.
func TestSyncFailsForAWhile(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t)
	c := connect(t, account)
	c.follows(t, account, room, 1)
	for n, action := range []homeserver.Action{
		homeserver.Status(http.StatusBadGateway, nil, ""),
		homeserver.Status(http.StatusBadRequest, nil, "<html>a web server's page</html>"),
		homeserver.Status(http.StatusForbidden, nil, `{"errcode":"M_FORBIDDEN"}`),
		homeserver.Status(http.StatusOK, nil, `{}`),
	} {
		before := c.count(rig.FollowUp)
		remove := c.Front.Inject(homeserver.Fault{Match: rig.FollowUp, Do: action})
		account.Put(t, room, "", map[string]int{"n": 10 * n})
		eventually(t, func() bool { return c.count(rig.FollowUp) >= before+2 }, "it is tried again")
		remove()
		eventually(t, func() bool { return c.Anew() == n+1 }, "the session says that sync had failed")
		c.follows(t, account, room, 10*n+1)
	}
	require.Equal(t, 1, c.count(first))
}

// Restart begins anew at once, though a sync is under way.
func TestRestart(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t)
	c := connect(t, account)
	c.follows(t, account, room, 1)
	for n := 1; n < 4; n++ {
		rig.Within(t, 5*time.Second, "sync begins anew", func() {
			c.Restart()
			eventually(t, func() bool { return c.Anew() == n }, "sync begins anew")
		})
		c.follows(t, account, room, 10*n)
		require.Equal(t, 1+n, c.count(first))
	}
	// While sync fails, too.
	remove := c.Front.Inject(homeserver.Fault{Match: rig.FollowUp, Do: homeserver.Status(http.StatusBadGateway, nil, "")})
	before := c.count(rig.FollowUp)
	account.Put(t, room, "", map[string]int{"n": 2})
	eventually(t, func() bool { return c.count(rig.FollowUp) > before }, "sync fails")
	c.Restart()
	eventually(t, func() bool { return c.Anew() >= 4 }, "sync begins anew")
	remove()
	c.follows(t, account, room, 100)
}

// A homeserver or a cache that answers at once with nothing new is not asked all the
// time, and one that has much to say is not kept waiting.
func TestNoHotLoop(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t)
	c := connect(t, account)
	c.follows(t, account, room, 0)
	n := 0
	for token, answer := range map[string]string{
		"empty":    `{"next_batch":"empty"}`,
		"the same": `{"next_batch":"the same","rooms":{"join":{"` + room.String() + `":{"timeline":{"events":[]}}}}}`,
	} {
		t.Run(token, func(t *testing.T) {
			asked := c.count(rig.FollowUp)
			n++
			c.follows(t, account, room, n)
			eventually(t, func() bool { return c.count(rig.FollowUp) > asked }, "the next sync is under way, with a token of the homeserver's")
			tokens := c.tokens()
			real := tokens[len(tokens)-1]
			remove := c.Front.Inject(homeserver.Fault{Match: rig.FollowUp, Do: homeserver.Status(http.StatusOK, nil, answer)})
			n++
			account.Put(t, room, "", map[string]int{"n": n}) // ends the sync that is under way
			before := c.count(rig.FollowUp)
			eventually(t, func() bool { return c.count(since(token)) > 0 }, "the answers come")
			start := time.Now()
			eventually(t, func() bool { return time.Since(start) > 3*time.Second }, "")
			require.Less(t, c.count(rig.FollowUp)-before, 30)
			// What the homeserver itself would say to such a token is another matter.
			c.Front.Inject(homeserver.Fault{Match: since(token), Times: 1, Do: func(w http.ResponseWriter, r *http.Request, server http.Handler) {
				query := r.URL.Query()
				query.Set("since", real)
				r.URL.RawQuery = query.Encode()
				server.ServeHTTP(w, r)
			}})
			remove()
			n++
			c.follows(t, account, room, n)
		})
	}
	const writes = 40
	start := time.Now()
	for range writes {
		n++
		c.follows(t, account, room, n)
	}
	t.Logf("%s for each write that is waited for", time.Since(start)/writes)
	require.Less(t, time.Since(start), writes*500*time.Millisecond)
}

// A homeserver that has MSC4222 is asked for the state after the timeline.
func TestStateAfter(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t)
	for _, name := range []string{"state_after", "org.matrix.msc4222.state_after"} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, account)
			c.follows(t, account, room, 1)
			c.Front.Inject(homeserver.Fault{Match: rig.FollowUp, Do: func(w http.ResponseWriter, r *http.Request, server http.Handler) {
				require.Equal(t, "true", r.URL.Query().Get("use_state_after"))
				require.Equal(t, "true", r.URL.Query().Get("org.matrix.msc4222.use_state_after"))
				recorder := httptest.NewRecorder()
				server.ServeHTTP(recorder, r)
				body := strings.Replace(recorder.Body.String(), `"timeline":`,
					`"`+name+`":{"events":[{"type":"dev.opsdroid.database","state_key":"","event_id":"$after","content":{"after":1}}]},"timeline":`, 1)
				homeserver.Status(recorder.Code, nil, body)(w, r, server)
			}})
			account.Put(t, room, "", map[string]int{"n": 2})
			account.Put(t, room, "", map[string]int{"n": 3})
			eventually(t, func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				for _, u := range c.updates {
					if len(texts(u.After)) == 1 {
						return texts(u.After)[0] == `{"after":1}`
					}
				}
				return false
			}, "the state after the timeline is handed on")
		})
	}
}

// A program's own client: the session follows its syncs, and can read rooms as with its
// own.
func TestForeignClient(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t)
	client, err := mautrix.NewClient(account.HomeserverURL.String(), account.UserID, account.AccessToken)
	require.NoError(t, err)
	t.Cleanup(client.Client.CloseIdleConnections)
	c := connectBy(t, account, session.New(client, true))
	sync := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = client.SyncWithContext(ctx) }()
		return func() { cancel(); <-ended }
	}
	stop := sync()
	eventually(t, func() bool { return c.Anew() == 1 }, "its first sync is noticed")
	c.follows(t, account, room, 1)
	snapshot := c.snapshotWith(t, room, content(1))
	require.Len(t, snapshot.State, 2)
	stop()

	account.Put(t, room, "", map[string]int{"n": 2})
	stop = sync()
	c.follows(t, account, room, 3)
	require.Equal(t, 1, c.Anew(), "it went on from where it was")
	require.Contains(t, c.Brought(room), content(2))
	c.Restart() // is the program's to do
	stop()
	client.Store = mautrix.NewMemorySyncStore()
	defer sync()()
	eventually(t, func() bool { return c.Anew() == 2 }, "it begins anew")
}

// Events and rooms that are null, as another server may put them into an invitation, are none.
func TestSyncWithNull(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t)
	c := connect(t, account)
	c.Front.Inject(homeserver.Fault{Match: rig.FollowUp, Do: homeserver.Edit(func(answer any) {
		rooms, _ := answer.(map[string]any)["rooms"].(map[string]any)
		joined, _ := rooms["join"].(map[string]any)
		for _, news := range joined {
			timeline := news.(map[string]any)["timeline"].(map[string]any)
			events, _ := timeline["events"].([]any)
			timeline["events"] = append([]any{nil}, events...)
			news.(map[string]any)["state"] = map[string]any{"events": []any{nil}}
		}
		if joined != nil {
			joined["!null:x"] = nil
			rooms["invite"] = map[string]any{"!null:x": nil, "!other:x": map[string]any{"invite_state": map[string]any{"events": []any{nil}}}}
			rooms["leave"] = map[string]any{"!null:x": nil}
		}
	})})
	c.follows(t, account, room, 1)
	c.follows(t, account, room, 2)
}
