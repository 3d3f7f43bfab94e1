package matrix_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// A rig is a memory behind a fault proxy, in a room of its own. What the account
// itself does goes past the proxy.
type rig struct {
	account
	*matrix.Memory
	front   *homeserver.Proxy
	room    id.RoomID
	timeout time.Duration
}

// behind opens a memory behind a proxy, in which faults may wait already.
func behind(t testing.TB, front *homeserver.Proxy, bot account, timeout time.Duration, layout matrix.StateKey, opts ...matrix.Option) rig {
	t.Helper()
	room := bot.newRoom(t)
	conf := bot.config(room)
	conf.Homeserver, conf.Timeout, conf.SingleStateKey = front.URL(), timeout, layout
	return rig{bot, open(t, conf, opts...), front, room, timeout}
}

// seen returns the requests that the proxy has seen of one kind.
func (r rig) seen(match func(*http.Request) bool) (requests []homeserver.Request) {
	matches := homeserver.Seen(match)
	for _, request := range r.front.Requests() {
		if matches(request) {
			requests = append(requests, request)
		}
	}
	return requests
}

func (r rig) writes() int { return len(r.seen(homeserver.StateWrite)) }

// has checks what Get returns; an empty want means that there is no such key.
func (r rig) has(t testing.TB, key, want string) {
	t.Helper()
	value, ok, err := r.Get(key)
	require.NoError(t, err)
	require.Equal(t, want != "", ok, "is %q there?", key)
	require.Equal(t, want, string(value))
}

// failed checks that an error tells all that an Error promises.
func (r rig) failed(t testing.TB, err error, op, key string) {
	t.Helper()
	var failure *matrix.Error
	require.ErrorAs(t, err, &failure)
	require.Equal(t, op, failure.Op)
	require.Equal(t, r.room.String(), failure.Room)
	require.Equal(t, key, failure.Key)
	require.ErrorContains(t, err, fmt.Sprintf("%s %q in room %s", op, key, r.room))
	require.NotContains(t, err.Error(), "secret", "the value must not be in the error")
}

// answered checks that the homeserver's own answer is reached.
func answered(t testing.TB, err error, code string) {
	t.Helper()
	var answer mautrix.RespError
	require.ErrorAs(t, err, &answer)
	require.Equal(t, code, answer.ErrCode)
}

// history returns how many of the memory's events the room has ever had.
func (r rig) history(t testing.TB) int {
	t.Helper()
	all, err := r.Messages(t.Context(), r.room, "", "", mautrix.DirectionBackward, &mautrix.FilterPart{Types: []event.Type{memoryType}}, 1000)
	require.NoError(t, err)
	return len(all.Chunk)
}

// followUp matches the requests of the sync loop, but for the first.
func followUp(r *http.Request) bool { return homeserver.Sync(r) && r.URL.Query().Has("since") }

// stateRead matches reads of a single state event.
func stateRead(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/state/"+memoryType.Type)
}

// wholeState matches reads of a room's whole state.
func wholeState(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/state")
}

// within runs something that must end in time.
func within(t testing.TB, bound time.Duration, what string, f func()) {
	t.Helper()
	start := time.Now()
	f()
	require.Less(t, time.Since(start), bound, what)
}

// slack is what a slow machine may take besides what a test waits for.
const slack = 5 * time.Second

// limited is a 429 with the advice of both forms.
func limited(seconds, ms string) homeserver.Action {
	header, body := http.Header{}, `{"errcode":"M_LIMIT_EXCEEDED","error":"Too many requests"`
	if seconds != "" {
		header.Set("Retry-After", seconds)
	}
	if ms != "" {
		body += `,"retry_after_ms":` + ms
	}
	return homeserver.Status(http.StatusTooManyRequests, header, body+`}`)
}

// A homeserver that limits the rate is obeyed, however it says how long.
func TestRateLimited(t *testing.T) {
	noLeaks(t)
	front := proxy(t)
	front.Inject(homeserver.Fault{Times: 1, Do: limited("1", "")})
	r := behind(t, front, register(t), 20*time.Second, matrix.OneStateKey)
	requests := front.Requests()
	require.GreaterOrEqual(t, requests[1].Time.Sub(requests[0].Time), time.Second, "at the login")

	for _, test := range []struct {
		name, seconds, ms string
		atLeast           time.Duration
	}{
		{"header", "1", "", time.Second},
		{"body", "", "700", 700 * time.Millisecond},
		{"body longer", "1", "1300", 1300 * time.Millisecond},
		{"header longer", "1", "10", time.Second},
		{"no advice", "", "", time.Millisecond},
		{"bad advice", "soon", `"later"`, time.Millisecond},
		{"past date", "Thu, 01 Jan 1970 00:00:00 GMT", "", 0},
	} {
		front.Reset()
		front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: limited(test.seconds, test.ms)})
		require.NoError(t, r.Set("tea", []byte(`"`+test.name+`"`)))
		puts := r.seen(homeserver.StateWrite)
		require.Len(t, puts, 2, test.name)
		require.GreaterOrEqual(t, puts[1].Time.Sub(puts[0].Time), test.atLeast, test.name)
	}
	require.JSONEq(t, `{"tea":"past date"}`, r.state(t, r.room)[""])

	front.Reset()
	front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: limited("3600", "10")})
	within(t, slack, "a wait beyond the timeout is not begun", func() {
		err := r.Set("tea", []byte(`"secret"`))
		r.failed(t, err, "set", "tea")
		answered(t, err, "M_LIMIT_EXCEEDED")
		require.ErrorContains(t, err, "asks to wait 1h0m0s, longer than the timeout of 20s leaves")
		require.NotErrorIs(t, err, commit.ErrUnknownOutcome)
	})
	require.Equal(t, 1, r.writes())
	r.has(t, "tea", `"past date"`)
}

// The sync loop obeys a limit as well.
func TestSyncRateLimited(t *testing.T) {
	front := proxy(t)
	front.Inject(homeserver.Fault{Match: followUp, Times: 1, Do: limited("", "1200")})
	r := behind(t, front, register(t), 15*time.Second, matrix.OneStateKey)
	eventually(t, func() bool { return len(r.seen(followUp)) > 1 }, "the sync goes on")
	polls := r.seen(followUp)
	require.GreaterOrEqual(t, polls[1].Time.Sub(polls[0].Time), 1200*time.Millisecond)
}

// A write whose answer is lost or that never arrived is sent again, and stands in
// the room once.
func TestLostAnswers(t *testing.T) {
	bot := register(t)
	faults := []struct {
		name string
		do   homeserver.Action
		puts int
	}{
		{"internal error", homeserver.Status(500, nil, `{"errcode":"M_UNKNOWN","error":"oops"}`), 2},
		{"bad gateway", homeserver.Status(502, nil, "<html>"), 2},
		{"unavailable", homeserver.Status(503, http.Header{"Retry-After": {"1"}}, ""), 2},
		{"gateway timeout", homeserver.Status(504, nil, ""), 2},
		{"reset before", homeserver.ResetBefore(), 2},
		{"reset after", homeserver.ResetAfter(), 2},
		{"bad gateway after", homeserver.StatusAfter(502), 2},
		{"timeout after", homeserver.StatusAfter(408), 2},
		{"empty", homeserver.Corrupt(""), 2},
		{"no event ID", homeserver.Corrupt("{}"), 2},
		{"another event ID", homeserver.Corrupt(`{"event_id":17}`), 2},
		{"half", homeserver.Corrupt(`{"event_`), 2},
		{"no JSON", homeserver.Corrupt("<html>Please log in</html>"), 2},
		{"slow", homeserver.Delay(300 * time.Millisecond), 1},
	}
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := behind(t, proxy(t), bot, 30*time.Second, layout)
			for i, fault := range faults {
				r.front.Reset()
				r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: fault.do})
				want := fmt.Sprint(i)
				require.NoError(t, r.Set("tea", []byte(want)), fault.name)
				require.Equal(t, fault.puts, r.writes(), fault.name)
				r.has(t, "tea", want)
			}
			eventually(t, func() bool { return r.history(t) >= len(faults) }, "the room's history")
			require.Equal(t, len(faults), r.history(t), "events, one for each value")
			r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: homeserver.ResetAfter()})
			was, err := r.Delete("tea")
			require.NoError(t, err)
			require.True(t, was, "it was there before the first attempt")
			r.has(t, "tea", "")
			for _, content := range r.state(t, r.room) {
				require.Equal(t, `{}`, content)
			}
		})
	}
}

// Reads that go wrong are made again, and what could not be read is never taken
// for nothing.
func TestLostReads(t *testing.T) {
	bot := register(t)
	r := behind(t, proxy(t), bot, 20*time.Second, matrix.OneStateKey)
	room := bot.newRoom(t)
	_, err := bot.SendStateEvent(t.Context(), room, memoryType, "", map[string]any{"theirs": 1})
	require.NoError(t, err)
	handle := r.InRoom(room.String())

	remove := r.front.Inject(homeserver.Fault{Match: wholeState, Do: limited("3600", "")})
	_, err = handle.Get("theirs", nil)
	var failure *matrix.Error
	require.ErrorAs(t, err, &failure)
	require.Equal(t, room.String(), failure.Room)
	answered(t, err, "M_LIMIT_EXCEEDED")
	require.ErrorAs(t, handle.Set("ours", "secret"), &failure)
	require.Equal(t, "ours", failure.Key)
	require.Zero(t, r.writes(), "nothing is written upon what could not be read")
	remove()

	for _, do := range []homeserver.Action{
		homeserver.Status(503, nil, ""),
		homeserver.ResetAfter(),
		homeserver.Corrupt("<html>"),
		homeserver.Corrupt(`[{"type":"dev.op`),
		homeserver.Corrupt(""),
	} {
		r.front.Inject(homeserver.Fault{Match: wholeState, Times: 1, Do: do})
	}
	ok, err := handle.Get("theirs", nil)
	require.NoError(t, err)
	require.True(t, ok)
	require.Len(t, r.seen(wholeState), 1+2+6, "at the start, when it was limited, and through all faults")
}

// Sync goes on after whatever goes wrong with it, and misses nothing.
func TestSyncRecovers(t *testing.T) {
	bot := register(t)
	front := proxy(t)
	for _, do := range []homeserver.Action{homeserver.Status(502, nil, ""), homeserver.Corrupt(`{}`)} {
		front.Inject(homeserver.Fault{Match: followUp, Times: 1, Do: do})
	}
	log, kept := logged()
	r := behind(t, front, bot, 5*time.Second, matrix.OneStateKey, matrix.WithLogger(log))
	_, err := bot.SendStateEvent(t.Context(), r.room, memoryType, "", map[string]any{"theirs": 1})
	require.NoError(t, err)
	eventually(t, func() bool { _, ok, err := r.Get("theirs"); return ok && err == nil }, "the other writer's key")
	require.Contains(t, kept.String(), "Sync fails; what others write is not seen until it works again")
	require.Contains(t, kept.String(), "Sync works again")
}

// unknown makes the next write one whose outcome is unknown: the answer is lost,
// and when the write is sent again, it is refused.
func (r rig) unknown(lost homeserver.Action) {
	r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: lost})
	r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: homeserver.Status(403, nil, `{"errcode":"M_FORBIDDEN","error":"no more"}`)})
}

// When the answer to a write is lost for good, the error says that the outcome is
// unknown, and the state event is read again before it is written again.
func TestUnknownOutcome(t *testing.T) {
	bot := register(t)
	for name, layout := range layouts {
		for outcome, lost := range map[string]homeserver.Action{"stored": homeserver.ResetAfter(), "not stored": homeserver.ResetBefore()} {
			t.Run(name+" "+outcome, func(t *testing.T) {
				t.Parallel()
				front := proxy(t)
				front.Inject(homeserver.Fault{Match: followUp, Do: homeserver.BlackHole()}) // else sync tells
				r := behind(t, front, bot, 30*time.Second, layout)
				require.NoError(t, r.Set("tea", []byte(`"old"`)))

				reached, release := make(chan struct{}), make(chan struct{})
				unpause := front.Inject(homeserver.Fault{Match: stateRead, Do: homeserver.PauseBefore(reached, release)})
				r.unknown(lost)
				err := r.Set("tea", []byte(`"secret"`))
				r.failed(t, err, "set", "tea")
				require.ErrorContains(t, err, "the outcome is unknown")
				require.ErrorIs(t, err, commit.ErrUnknownOutcome)
				answered(t, err, "M_FORBIDDEN")
				r.has(t, "tea", `"old"`)
				<-reached
				front.Reset()
				written := make(chan error, 1)
				go func() { written <- r.Set("tea", []byte(`"new"`)) }()
				r.has(t, "tea", `"old"`)
				require.Zero(t, r.writes(), "no write before the event was read again")
				unpause()
				close(release)
				require.NoError(t, <-written)
				require.Equal(t, 1, r.writes())
				r.has(t, "tea", `"new"`)
				events := 2
				if outcome == "stored" {
					events++
				}
				eventually(t, func() bool { return r.history(t) >= events }, "the room's history")
				require.Equal(t, events, r.history(t))
			})
		}
	}
}

// What a write without an answer has stored is there after all, also when it is
// only read, and setting it again costs no write.
func TestUnknownOutcomeSettles(t *testing.T) {
	bot := register(t)
	front := proxy(t)
	front.Inject(homeserver.Fault{Match: followUp, Do: homeserver.BlackHole()})
	r := behind(t, front, bot, 30*time.Second, matrix.OneStateKey)
	require.NoError(t, r.Set("coffee", []byte(`"black"`)))
	r.unknown(homeserver.ResetAfter())
	require.ErrorIs(t, r.Set("tea", []byte(`"green"`)), commit.ErrUnknownOutcome)
	eventually(t, func() bool { _, ok, err := r.Get("tea"); return ok && err == nil }, "the value that was stored")
	front.Reset()
	require.NoError(t, r.Set("tea", []byte(`"green"`)))
	require.Zero(t, r.writes())
	r.has(t, "coffee", `"black"`)

	r.unknown(homeserver.StatusAfter(500))
	_, err := r.Delete("tea")
	r.failed(t, err, "delete", "tea")
	require.ErrorIs(t, err, commit.ErrUnknownOutcome)
	eventually(t, func() bool { _, ok, err := r.Get("tea"); return !ok && err == nil }, "the delete that was done")
	was, err := r.Delete("tea")
	require.NoError(t, err)
	require.False(t, was)
	require.JSONEq(t, `{"coffee":"black"}`, bot.state(t, r.room)[""])
}

// What a retry can't help fails at once, after one request, and is never visible.
func TestRefused(t *testing.T) {
	bot := register(t)
	for name, layout := range layouts {
		r := behind(t, proxy(t), bot, 15*time.Second, layout)
		require.NoError(t, r.Set("tea", []byte(`"old"`)))
		for _, test := range []struct {
			status int
			code   string
			is     error
		}{
			{http.StatusForbidden, "M_FORBIDDEN", matrix.ErrForbidden},
			{http.StatusRequestEntityTooLarge, "M_TOO_LARGE", matrix.ErrTooLarge},
			{http.StatusBadRequest, "M_BAD_JSON", nil},
			{http.StatusNotFound, "M_NOT_FOUND", matrix.ErrUnknownRoom},
		} {
			t.Run(name+" "+test.code, func(t *testing.T) {
				body := fmt.Sprintf(`{"errcode":%q,"error":"the server's words"}`, test.code)
				remove := r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Status(test.status, nil, body)})
				defer remove()
				for _, op := range []string{"set", "delete"} {
					r.front.Reset()
					var err error
					if op == "set" {
						err = r.Set("tea", []byte(`"secret"`))
					} else {
						_, err = r.Delete("tea")
					}
					r.failed(t, err, op, "tea")
					answered(t, err, test.code)
					require.ErrorContains(t, err, "the server's words")
					if test.is != nil {
						require.ErrorIs(t, err, test.is)
					}
					require.NotErrorIs(t, err, commit.ErrUnknownOutcome)
					require.Equal(t, 1, r.writes())
					r.has(t, "tea", `"old"`)
				}
			})
		}
		require.NoError(t, r.Set("tea", []byte(`"new"`)), "nothing stays behind")
		r.has(t, "tea", `"new"`)
	}
}

// What does not fit in an event is refused before anything is sent, and what just
// fits is accepted by the homeserver.
func TestLimits(t *testing.T) {
	bot := register(t)
	contents := map[string]func(n int) []byte{ // each of about n bytes in the event
		"quotes": func(n int) []byte { return []byte(`"` + strings.Repeat(`\"\\`, n/4) + strings.Repeat("x", n%4) + `"`) },
		"controls": func(n int) []byte {
			return []byte(`"` + strings.Repeat(`\u0001`, n/6) + strings.Repeat("x", n%6) + `"`)
		},
		"multi-byte": func(n int) []byte { return []byte(`"` + strings.Repeat("🫖", n/4) + strings.Repeat("x", n%4) + `"`) },
		"bytes":      func(n int) []byte { return bytes.Repeat([]byte{0xff}, n*3/4-1) },
		"numbers":    func(n int) []byte { return []byte("[" + strings.Repeat("1,", n/2) + strings.Repeat("1", 1+n%2) + "]") },
		"wrapped": func(n int) []byte {
			return []byte(`["` + strings.Repeat(`\\`, n/4) + strings.Repeat("x", n%4) + `",1.5]`)
		},
	}
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := behind(t, proxy(t), bot, 30*time.Second, layout)
			require.NoError(t, r.Set("other", []byte(`"secret"`)))
			var before []byte
			for content, make := range contents {
				r.front.Reset()
				err := r.Set("tea", make(80_000))
				r.failed(t, err, "set", "tea")
				require.ErrorIs(t, err, matrix.ErrTooLarge)
				var tooLarge *commit.TooLargeError
				require.ErrorAs(t, err, &tooLarge)
				require.ErrorContains(t, err, fmt.Sprint(tooLarge.Size))
				require.ErrorContains(t, err, fmt.Sprint(tooLarge.Limit))
				require.Greater(t, tooLarge.Limit, 60_000)
				require.Zero(t, r.writes(), content)
				r.has(t, "tea", string(before))
				r.has(t, "other", `"secret"`)

				// The largest that the memory takes, found without sending any.
				n := 80_000 - (tooLarge.Size - tooLarge.Limit) + 16
				for err = r.Set("tea", make(n)); errors.Is(err, matrix.ErrTooLarge); err = r.Set("tea", make(n)) {
					var answer mautrix.RespError
					require.False(t, errors.As(err, &answer), "%s: the homeserver refused what should fit: %v", content, err)
					n--
				}
				require.NoError(t, err, content)
				require.Equal(t, 1, r.writes(), content)
				before = make(n)
				r.has(t, "tea", string(before))
			}
			r.has(t, "other", `"secret"`)
		})
	}
	t.Run("dictionary", func(t *testing.T) {
		t.Parallel()
		r := behind(t, proxy(t), bot, 30*time.Second, matrix.OneStateKey)
		half := []byte(`"` + strings.Repeat("x", 40_000) + `"`)
		require.NoError(t, r.Set("one", half))
		err := r.Set("two", half)
		r.failed(t, err, "set", "two")
		require.ErrorIs(t, err, matrix.ErrTooLarge)
		require.ErrorContains(t, err, "the dictionary of 2 keys would have 80")
		require.Equal(t, 1, r.writes())
		r.has(t, "two", "")
		require.NoError(t, r.Set("small", []byte(`1`)))
		_, err = r.Delete("one")
		require.NoError(t, err)
		require.NoError(t, r.Set("two", half), "there is room again")
		require.Equal(t, map[string]string{"": `{"small":1,"two":` + string(half) + `}`}, r.state(t, r.room))
	})
}

// Of many who write at the same time, only those whose value is bad get an error.
func TestOneBadValue(t *testing.T) {
	bot := register(t)
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := behind(t, proxy(t), bot, 30*time.Second, layout)
			poisoned := func(w http.ResponseWriter, req *http.Request, server http.Handler) {
				body, _ := io.ReadAll(req.Body)
				if bytes.Contains(body, []byte("poison")) {
					homeserver.Status(http.StatusBadRequest, nil, `{"errcode":"M_BAD_JSON","error":"no poison"}`)(w, req, server)
					return
				}
				req.Body = io.NopCloser(bytes.NewReader(body))
				server.ServeHTTP(w, req)
			}
			r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: poisoned})
			values := map[string]string{"bad": `"poison"`, "large": `"` + strings.Repeat("x", 70_000) + `"`}
			for i := range 8 {
				values[fmt.Sprintf("good %d", i)] = fmt.Sprint(i)
			}
			handle := r.InRoom(r.room.String())
			results := make(map[string]error)
			var mu sync.Mutex
			var writers sync.WaitGroup
			for key, value := range values {
				writers.Go(func() {
					err := handle.Set(key, rawJSON(value))
					mu.Lock()
					defer mu.Unlock()
					results[key] = err
				})
			}
			writers.Wait()
			for key, value := range values {
				switch key {
				case "bad":
					r.failed(t, results[key], "set", key)
					answered(t, results[key], "M_BAD_JSON")
					r.has(t, key, "")
				case "large":
					r.failed(t, results[key], "set", key)
					require.ErrorIs(t, results[key], matrix.ErrTooLarge)
					r.has(t, key, "")
				default:
					require.NoError(t, results[key], key)
					r.has(t, key, value)
				}
			}
			_, found := bot.state(t, r.room)["bad"]
			require.False(t, found)
			for stateKey, content := range bot.state(t, r.room) {
				require.NotContains(t, content, "poison", stateKey)
			}
		})
	}
}

// While the homeserver is away, writes fail in time; afterwards all goes on, and
// nothing that was acknowledged is lost.
func TestHomeserverAway(t *testing.T) {
	noLeaks(t)
	own, err := homeserver.Start(t.Context(), homeserver.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, own.Stop()) })
	bot := registerAt(t, own)
	room := bot.newRoom(t)
	conf := bot.config(room)
	conf.Homeserver, conf.Timeout = own.URL(), 6*time.Second
	r := rig{account: bot, Memory: open(t, conf), room: room, timeout: conf.Timeout}
	want := map[string]string{}
	set := func(key string) error {
		err := r.Set(key, []byte(`1`))
		if err == nil {
			want[key] = `1`
		}
		return err
	}
	require.NoError(t, set("before"))

	require.NoError(t, own.Kill())
	within(t, r.timeout+slack, "a write while the homeserver is away", func() {
		err := set("away")
		r.failed(t, err, "set", "away")
		require.ErrorContains(t, err, "connection refused")
		require.NotErrorIs(t, err, commit.ErrUnknownOutcome, "it never reached the homeserver")
	})
	r.has(t, "away", "")
	r.has(t, "before", `1`)
	restarted := make(chan error, 1)
	go func() { restarted <- own.Restart(context.Background()) }()
	if err := set("meanwhile"); err != nil { // it depends on how long the start takes
		r.failed(t, err, "set", "meanwhile")
	}
	require.NoError(t, <-restarted)
	eventually(t, func() bool { return set("after") == nil && set("last") == nil }, "writing again")

	theirs := map[string]any{"theirs": 1}
	for key := range want {
		theirs[key] = 1
	}
	_, err = bot.SendStateEvent(t.Context(), room, memoryType, "", theirs)
	require.NoError(t, err)
	want["theirs"] = `1`
	require.Eventually(t, func() bool { _, ok, err := r.Get("theirs"); return ok && err == nil }, time.Minute, 10*time.Millisecond, "sync after the restart")

	require.NoError(t, own.Kill())
	require.NoError(t, own.Restart(t.Context()))
	again := open(t, conf)
	for key, value := range want {
		got, ok, err := again.Get(key)
		require.NoError(t, err)
		require.True(t, ok, "%q was acknowledged", key)
		require.Equal(t, value, string(got))
	}
}

// registerAt is register for a server of a test's own.
func registerAt(t testing.TB, own *homeserver.Server) account {
	t.Helper()
	made, err := own.Register(t.Context(), "bot", "a password")
	require.NoError(t, err)
	client, err := mautrix.NewClient(own.URL(), id.UserID(made.UserID), made.AccessToken)
	require.NoError(t, err)
	t.Cleanup(client.Client.CloseIdleConnections)
	return account{made, client}
}

// Close waits for the writes that were accepted, and takes no new ones.
func TestCloseWhileWriting(t *testing.T) {
	noLeaks(t)
	r := behind(t, proxy(t), register(t), 15*time.Second, matrix.OneStateKey)
	reached, release := make(chan struct{}), make(chan struct{})
	r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: homeserver.PauseBefore(reached, release)})
	results := make(chan error, 2)
	go func() { results <- r.Set("one", []byte(`1`)) }()
	<-reached
	accepted := make(chan error, 1)
	go func() { accepted <- r.Set("two", []byte(`2`)) }()

	closed := make(chan error, 1)
	go func() { closed <- r.Close() }()
	eventually(t, func() bool { _, _, err := r.Get("one"); return errors.Is(err, matrix.ErrClosed) }, "Close has begun")
	usedAfterClose(t, r.Memory)
	require.Empty(t, closed, "Close waits")
	close(release)
	require.NoError(t, <-results)
	second := <-accepted // a write that came too late is refused, and else it is stored
	require.NoError(t, <-closed)
	require.NoError(t, r.Close(), "again")
	usedAfterClose(t, r.Memory)

	want := `{"one":1,"two":2}`
	if second != nil {
		require.ErrorIs(t, second, matrix.ErrClosed)
		want = `{"one":1}`
	}
	require.JSONEq(t, want, r.state(t, r.room)[""])
}

// usedAfterClose checks that every operation on a closed memory says that it is.
func usedAfterClose(t testing.TB, memory *matrix.Memory) {
	t.Helper()
	room := memory.InRoom("main")
	for op, use := range map[string]func() error{
		"Set":             func() error { return memory.Set("key", nil) },
		"Get":             func() error { _, _, err := memory.Get("key"); return err },
		"Delete":          func() error { _, err := memory.Delete("key"); return err },
		"Keys":            func() error { _, err := memory.Keys(); return err },
		"InRoom.Set":      func() error { return room.Set("key", 1) },
		"InRoom.Get":      func() error { _, err := room.Get("key", nil); return err },
		"InRoom.Delete":   func() error { _, err := room.Delete("key"); return err },
		"InRoom.Keys":     func() error { _, err := room.Keys(); return err },
		"InEventRoom":     func() error { return memory.InEventRoom(func(joe.Message) error { return nil })(joe.Message{}) },
		"Set permissions": func() error { return memory.Set("joe.permissions.x", nil) },
	} {
		err := use()
		require.ErrorIs(t, err, matrix.ErrClosed, op)
		var failure *matrix.Error
		require.ErrorAs(t, err, &failure, op)
	}
}

// A homeserver that does not answer keeps neither a write nor Close longer than
// the timeout.
func TestBlackHole(t *testing.T) {
	noLeaks(t)
	r := behind(t, proxy(t), register(t), 6*time.Second, matrix.OneStateKey)
	r.front.Inject(homeserver.Fault{Do: homeserver.BlackHole()})
	within(t, r.timeout+slack, "a write", func() {
		err := r.Set("tea", []byte(`"secret"`))
		r.failed(t, err, "set", "tea")
		require.ErrorContains(t, err, "the outcome is unknown")
		require.ErrorIs(t, err, commit.ErrUnknownOutcome)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	r.has(t, "tea", "")
	within(t, 2*r.timeout+slack, "Close", func() { require.NoError(t, r.Close()) })
	require.Empty(t, r.state(t, r.room))
}

// A write that was accepted before Close, and has no answer by its own deadline,
// is told so.
func TestCloseGivesUp(t *testing.T) {
	noLeaks(t)
	r := behind(t, proxy(t), register(t), 6*time.Second, matrix.OneStateKey)
	r.front.Inject(homeserver.Fault{Do: homeserver.BlackHole()})
	result := make(chan error, 1)
	go func() { result <- r.Set("tea", []byte(`"secret"`)) }()
	eventually(t, func() bool { return r.writes() > 0 }, "the write")
	within(t, 2*r.timeout+slack, "Close", func() { require.NoError(t, r.Close()) })
	err := <-result
	r.failed(t, err, "set", "tea")
	require.ErrorIs(t, err, commit.ErrUnknownOutcome)
}

// A token that dies while the bot runs is a clear error, and what is known can
// still be read.
func TestDeadTokenWhileRunning(t *testing.T) {
	noLeaks(t)
	log, kept := logged()
	r := behind(t, proxy(t), register(t), 15*time.Second, matrix.OneStateKey, matrix.WithLogger(log))
	require.NoError(t, r.Set("tea", []byte(`"green"`)))
	_, err := r.LogoutAll(t.Context())
	require.NoError(t, err)
	r.front.Reset()
	const says = "the homeserver no longer accepts the access token: make a new one, or use a password"
	within(t, slack, "the error", func() {
		err := r.Set("tea", []byte(`"secret"`))
		r.failed(t, err, "set", "tea")
		require.ErrorContains(t, err, says)
		answered(t, err, "M_UNKNOWN_TOKEN")
	})
	require.Equal(t, 1, r.writes())
	r.has(t, "tea", `"green"`)
	eventually(t, func() bool {
		return strings.Contains(kept.String(), "Sync fails") && strings.Contains(kept.String(), says)
	}, "the sync loop says it too")
	require.NotContains(t, kept.String(), r.Account.AccessToken)
}

// What this version can't read is an error, is not overwritten, and survives
// writes to other keys.
func TestUnreadable(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	const foreign = `"dev.joe.key:!!":1,"future":{"dev.joe.future":"x"},"pointer":{"encrypted_val":7},"torn":{"dev.joe.bytes":"%"}`
	_, err := bot.SendStateEvent(t.Context(), room, memoryType, "", rawJSON(`{`+foreign+`,"tea":"green"}`))
	require.NoError(t, err)
	front := proxy(t)
	conf := bot.config(room)
	conf.Homeserver = front.URL()
	r := rig{bot, open(t, conf), front, room, conf.Timeout}
	for _, key := range []string{"future", "pointer", "torn"} {
		_, _, err := r.Get(key)
		r.failed(t, err, "get", key)
		err = r.Set(key, []byte(`"secret"`))
		r.failed(t, err, "set", key)
		require.ErrorIs(t, err, commit.ErrUnreadable)
	}
	require.Zero(t, r.writes())
	keys, err := r.Keys()
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"future", "pointer", "torn", "tea"}, keys)
	require.NoError(t, r.Set("tea", []byte(`"black"`)))
	require.JSONEq(t, `{`+foreign+`,"tea":"black"}`, bot.state(t, room)[""])
	was, err := r.Delete("future")
	require.NoError(t, err)
	require.True(t, was)
	require.NoError(t, r.Set("future", []byte(`1`)))
	r.has(t, "future", `1`)

	// With a state event for each key, what does not belong to the memory is in
	// the way of its own key only.
	_, err = bot.SendStateEvent(t.Context(), room, memoryType, "foreign", rawJSON(`{"a":1,"b":2}`))
	require.NoError(t, err)
	conf.SingleStateKey = matrix.PerKey
	r = rig{bot, open(t, conf), front, room, conf.Timeout}
	front.Reset()
	r.failed(t, r.Set("foreign", []byte(`"secret"`)), "set", "foreign")
	_, err = r.Delete("foreign")
	r.failed(t, err, "delete", "foreign")
	require.Zero(t, r.writes())
	require.NoError(t, r.Set("tea", []byte(`1`)))
	require.JSONEq(t, `{"a":1,"b":2}`, bot.state(t, room)["foreign"])
}

// An event whose content is no dictionary at all is an error for all its keys,
// and nothing is written upon it.
func TestMalformed(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	_, err := bot.SendStateEvent(t.Context(), room, memoryType, "", map[string]any{"tea": "green"})
	require.NoError(t, err)
	for name, content := range map[string]string{"text": `"text"`, "list": `[1]`, "null": `null`, "twice": `{"tea":"green","tea":"black"}`} {
		t.Run(name, func(t *testing.T) {
			front := proxy(t)
			// No homeserver sends this, and yet it must not cost what is stored.
			garble := func(w http.ResponseWriter, req *http.Request, server http.Handler) {
				homeserver.Corrupt(fmt.Sprintf(`[{"type":"m.room.member","state_key":%q,"event_id":"$1","sender":%[1]q,"content":{"membership":"join"}},`+
					`{"type":"dev.opsdroid.database","state_key":"","event_id":"$2","sender":%[1]q,"content":%s}]`, bot.UserID(), content))(w, req, server)
			}
			front.Inject(homeserver.Fault{Match: wholeState, Do: garble})
			conf := bot.config(room)
			conf.Homeserver, conf.Timeout = front.URL(), time.Second
			memory := matrix.New(conf, matrix.WithLogger(quiet(t)))
			if err := memory.Open(t.Context()); err == nil {
				r := rig{bot, memory, front, room, conf.Timeout}
				_, _, err = r.Get("tea")
				r.failed(t, err, "get", "tea")
				_, err = r.Keys()
				require.Error(t, err)
				r.failed(t, r.Set("coffee", []byte(`"secret"`)), "set", "coffee")
				_, err = r.Delete("tea")
				r.failed(t, err, "delete", "tea")
				require.Zero(t, r.writes())
			}
			require.NoError(t, memory.Close())
		})
	}
	require.JSONEq(t, `{"tea":"green"}`, bot.state(t, room)[""])
}
