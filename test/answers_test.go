package test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A page of a web server before the homeserver says nothing of rooms, permissions or
// values, whatever its status: what it was sent for is tried again.
func TestPagesAreWaitedOut(t *testing.T) {
	bot := rig.Register(t)
	for _, status := range []int{200, 204, 304, 400, 401, 403, 404, 405, 421, 451, 502} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			r := behind(t, rig.Proxy(t), bot, 20*time.Second, matrix.OneStateKey)
			other := bot.NewRoom(t)
			bot.Put(t, other, "", map[string]int{"theirs": 1})
			handle := r.InRoom(bot.NewAlias(t, other).String())
			reads := func(r *http.Request) bool { return !rig.FollowUp(r) }
			r.Front.Inject(homeserver.Fault{Match: reads, Times: 1, Do: homeserver.Page(status)}) // of the alias
			r.Front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 2, Do: homeserver.Page(status)})
			var theirs int
			found, err := handle.Get("theirs", &theirs)
			require.NoError(t, err)
			require.True(t, found)
			require.NoError(t, handle.Set("ours", 2))
			require.JSONEq(t, `{"theirs":1,"ours":2}`, bot.Standing(t, other)[""])

			third := bot.NewRoom(t)
			r.Front.Inject(homeserver.Fault{Match: reads, Times: 2, Do: homeserver.Page(status)}) // of the state
			found, err = r.InRoom(third.String()).Get("theirs", nil)
			require.NoError(t, err)
			require.False(t, found)
		})
	}
}

// A page that stays is what the error tells of, and the outcome is unknown: a web server
// may say anything once the homeserver has acted.
func TestPageThatStays(t *testing.T) {
	t.Parallel()
	bot := rig.Register(t)
	r := behind(t, rig.Proxy(t), bot, 5*time.Second, matrix.OneStateKey)
	for _, status := range []int{200, 403, 404} {
		remove := r.Front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Page(status)})
		err := r.Set("tea", []byte(`"secret"`))
		r.Failed(t, err, "set", "tea")
		require.ErrorContains(t, err, fmt.Sprintf("HTTP %d (text/html) without", status))
		require.ErrorContains(t, err, "web server")
		require.NotContains(t, err.Error(), "not the homeserver's", "what the page says")
		require.ErrorIs(t, err, matrix.ErrUnknownOutcome)
		require.NotErrorIs(t, err, matrix.ErrUnknownRoom)
		require.NotErrorIs(t, err, matrix.ErrForbidden)
		rig.Has(t, r.Memory, "tea", "")
		remove()
	}
	require.NoError(t, r.Set("tea", []byte(`"green"`)))
}

// What a web server says as well as a homeserver counts: that a request is too large for
// it, which waiting does not change, and that requests come too fast.
func TestPagesThatCount(t *testing.T) {
	bot := rig.Register(t)
	r := behind(t, rig.Proxy(t), bot, 20*time.Second, matrix.OneStateKey)
	remove := r.Front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Page(http.StatusRequestEntityTooLarge)})
	rig.Within(t, slack, "the error", func() {
		err := r.Set("tea", []byte(`"secret"`))
		r.Failed(t, err, "set", "tea")
		require.ErrorIs(t, err, matrix.ErrTooLarge)
		require.NotErrorIs(t, err, matrix.ErrUnknownOutcome)
	})
	require.Equal(t, 1, r.Writes())
	remove()

	r.Front.Reset()
	r.Front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1,
		Do: homeserver.Status(http.StatusTooManyRequests, http.Header{"Retry-After": {"1"}, "Content-Type": {"text/html"}}, "<html>")})
	require.NoError(t, r.Set("tea", []byte(`"green"`)))
	puts := r.Seen(homeserver.StateWrite)
	require.Len(t, puts, 2)
	require.GreaterOrEqual(t, puts[1].Time.Sub(puts[0].Time), time.Second)
}

// JSON counts as an answer if it has what was asked for, from the login to the write.
func TestAnswersHaveWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	bot, owner := rig.Register(t), rig.Register(t)
	front := rig.Proxy(t)
	others := []string{"", "<html>Please log in</html>", "null", "{}", "[]", `"ok"`, "17", `{"error":"no errcode"}`}
	home := bot.NewRoom(t)
	for name, test := range map[string]struct {
		match  func(*http.Request) bool
		others []string
		change func(*matrix.Config)
	}{
		"whoami": {rig.InPath("/account/whoami"), []string{`{"device_id":"X"}`, `{"user_id":17}`}, func(*matrix.Config) {}},
		"login": {rig.InPath("/login"), []string{`{"access_token":"x"}`, `{"user_id":"@bot:localhost","device_id":"X"}`}, func(c *matrix.Config) {
			c.AccessToken, c.UserID, c.Password = "", bot.UserID.String(), bot.Password
		}},
		"alias": {rig.InPath("/directory/room/"), []string{`{"servers":["localhost"]}`}, func(c *matrix.Config) {
			c.Rooms["main"] = bot.NewAlias(t, home).String()
		}},
		"join": {rig.InPath("/join/"), nil, func(c *matrix.Config) {
			room := owner.NewRoom(t)
			_, err := owner.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: bot.UserID})
			require.NoError(t, err)
			c.Rooms["main"] = room.String()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, body := range append(slices.Clone(others), test.others...) {
				conf := bot.Config(home)
				conf.Homeserver = front.URL()
				test.change(&conf)
				remove := front.Inject(homeserver.Fault{Match: test.match, Times: 1, Do: homeserver.Status(http.StatusOK, nil, body)})
				memory := matrix.New(conf, matrix.WithLogger(rig.Log(t)))
				require.NoError(t, memory.Open(t.Context()), body)
				require.NoError(t, memory.Close())
				remove()
			}
		})
	}
	for _, part := range []string{"/state/m.room.member/", "/messages", "/context/", "/state/" + rig.MemoryType.Type + "/"} {
		t.Run("read "+part, func(t *testing.T) {
			room := bot.NewRoom(t)
			bot.Put(t, room, "", map[string]int{"tea": 1})
			conf := bot.Config(room)
			conf.Homeserver = front.URL()
			for _, body := range others {
				if strings.HasPrefix(body, "{") && part == "/state/"+rig.MemoryType.Type+"/" {
					continue // that may stand there
				}
				front.Reset()
				remove := front.Inject(homeserver.Fault{Match: rig.InPath(part), Times: 1, Do: homeserver.Status(http.StatusOK, nil, body)})
				memory := matrix.New(conf, matrix.WithLogger(rig.Log(t)))
				require.NoError(t, memory.Open(t.Context()), body)
				rig.Has(t, memory, "tea", `1`)
				require.NoError(t, memory.Close())
				remove()
				require.GreaterOrEqual(t, front.Count(homeserver.Seen(rig.InPath(part))), 2, body)
			}
		})
	}
	t.Run("write", func(t *testing.T) {
		r := behind(t, front, bot, 15*time.Second, matrix.OneStateKey)
		for i, body := range append(slices.Clone(others), `{"event_id":""}`, `{"event_id":17}`, `{"event_id":"green"}`, `{"room_id":"$x"}`) {
			front.Reset()
			front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: homeserver.Status(http.StatusOK, nil, body)})
			require.NoError(t, r.Set("tea", fmt.Append(nil, i)), body)
			require.JSONEq(t, fmt.Sprintf(`{"tea":%d}`, i), r.Standing(t, r.Room)[""], body)
		}
	})
}

// That something in front does not know a path says nothing of the room, and nothing of what
// stands there.
func TestUnrecognizedIsNoUnknownRoom(t *testing.T) {
	bot := rig.Register(t)
	r := behind(t, rig.Proxy(t), bot, 15*time.Second, matrix.OneStateKey)
	require.NoError(t, r.Set("tea", []byte(`"green"`)))
	remove := r.Front.Inject(homeserver.Fault{
		Match: func(r *http.Request) bool { return !homeserver.Sync(r) },
		Do:    homeserver.Status(http.StatusNotFound, nil, `{"errcode":"M_UNRECOGNIZED","error":"Unrecognized request"}`),
	})
	err := r.Set("tea", []byte(`"black"`))
	r.Failed(t, err, "set", "tea")
	answered(t, err, "M_UNRECOGNIZED")
	require.NotErrorIs(t, err, matrix.ErrUnknownRoom)
	_, err = r.InRoom(bot.NewRoom(t).String()).Get("tea", nil)
	answered(t, err, "M_UNRECOGNIZED")
	require.NotErrorIs(t, err, matrix.ErrUnknownRoom)
	rig.Has(t, r.Memory, "tea", `"green"`)
	remove()
	require.NoError(t, r.Set("tea", []byte(`"black"`)))
}

// The decoder's words about an answer that can't be decoded may quote it, and are not told.
func TestErrorsOfDecodingQuoteNothing(t *testing.T) {
	const value = "98765432109876543210"
	front := rig.Proxy(t)
	front.Inject(homeserver.Fault{Match: rig.FollowUp, Do: homeserver.Status(http.StatusOK, nil,
		`{"next_batch":"s1","device_one_time_keys_count":{"signed_curve25519":`+value+`}}`)})
	log, kept := rig.KeepLog()
	behind(t, front, rig.Register(t), 15*time.Second, matrix.OneStateKey, matrix.WithLogger(log))
	eventually(t, func() bool { return strings.Contains(kept.String(), "Sync fails") }, "sync fails")
	require.Contains(t, kept.String(), "HTTP 200 (application/json) without what was asked for")
	require.NotContains(t, kept.String(), value)
}
