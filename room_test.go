package matrix_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// The operations of a handle with a context end with it, wherever they have got to,
// long before the memory's timeout. The handle that it was made of goes on.
func TestWithContext(t *testing.T) {
	const key = "tea"
	operations := map[string]func(*matrix.Room) error{
		"set":    func(r *matrix.Room) error { return r.Set(key, "green") },
		"get":    func(r *matrix.Room) error { _, err := r.Get(key, nil); return err },
		"delete": func(r *matrix.Room) error { _, err := r.Delete(key); return err },
		"keys":   func(r *matrix.Room) error { _, err := r.Keys(); return err },
	}
	directory := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/directory/room/") }
	stages := map[string]struct {
		hangs func(*http.Request) bool // what the operation has got to when its context ends
		ops   []string                 // those that get there
		sent  bool                     // the change may have been stored
	}{
		"looking up the alias": {directory, []string{"set", "get", "delete", "keys"}, false},
		"reading the state":    {rig.Load, []string{"set", "get", "delete", "keys"}, false},
		"writing":              {homeserver.StateWrite, []string{"set", "delete"}, true},
	}
	for name, stage := range stages {
		for _, op := range stage.ops {
			t.Run(name+"/"+op, func(t *testing.T) {
				t.Parallel()
				bot := rig.Register(t)
				r := rig.Behind(t, rig.Proxy(t), bot, bot.Config(bot.NewRoom(t)))
				other := bot.NewRoom(t)
				bot.Put(t, other, "", map[string]string{key: "black"})
				handle := r.InRoom(bot.NewAlias(t, other).String())

				reached, release := make(chan struct{}), make(chan struct{})
				remove := r.Front.Inject(homeserver.Fault{Match: stage.hangs, Do: homeserver.PauseBefore(reached, release)})
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- operations[op](handle.WithContext(ctx)) }()
				<-reached
				cancel()
				var err error
				rig.Within(t, 5*time.Second, op+" after its context has ended", func() { err = <-ended })
				require.ErrorIs(t, err, context.Canceled)
				var failure *matrix.Error
				require.ErrorAs(t, err, &failure)
				require.Equal(t, op, failure.Op)
				if stage.sent {
					require.ErrorIs(t, err, matrix.ErrUnknownOutcome)
				} else {
					require.NotErrorIs(t, err, matrix.ErrUnknownOutcome)
				}

				remove()
				close(release)
				require.NoError(t, handle.Set("milk", "white"), "the handle without the context")
				if stage.sent && op == "set" { // what was sent is not taken back, and the memory learns of it
					eventually(t, func() bool {
						var value string
						found, err := handle.Get(key, &value)
						return err == nil && found && value == "green"
					}, "the change arrives")
				}
			})
		}
	}
}

// With a context that has ended nothing is done, not even what needs no request.
func TestWithContextThatHasEnded(t *testing.T) {
	bot := rig.Register(t)
	r := rig.Behind(t, rig.Proxy(t), bot, bot.Config(bot.NewRoom(t)))
	require.NoError(t, r.InRoom("main").Set("tea", "green"))
	before := r.Writes()
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	handle := r.InRoom("main").WithContext(ctx)
	_, err := handle.Get("tea", nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, handle.Set("tea", "black"), context.DeadlineExceeded)
	_, err = handle.DeleteAll("tea", "milk")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, matrix.ErrUnknownOutcome)
	require.Equal(t, before, r.Writes())
	var none context.Context
	require.PanicsWithValue(t, "matrix: WithContext needs a context", func() { handle.WithContext(none) })
}

// A context that ends while a request is on its way for several callers ends only its own
// caller's operation.
func TestWithContextLeavesOthersAlone(t *testing.T) {
	bot := rig.Register(t)
	r := rig.Behind(t, rig.Proxy(t), bot, bot.Config(bot.NewRoom(t)))
	reached, release := make(chan struct{}), make(chan struct{})
	r.Front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: homeserver.PauseBefore(reached, release)})
	ctx, cancel := context.WithCancel(t.Context())
	sent, waiting, patient := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() { sent <- r.InRoom("main").WithContext(ctx).Set("a", 1) }()
	<-reached
	go func() { patient <- r.InRoom("main").Set("c", 3) }()
	brief, end := context.WithTimeout(ctx, 200*time.Millisecond)
	defer end()
	go func() { waiting <- r.InRoom("main").WithContext(brief).Set("b", 2) }()
	err := <-waiting // for the first to be answered, so its time is over
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, matrix.ErrUnknownOutcome, "it was never sent")
	go func() { waiting <- r.InRoom("main").WithContext(ctx).Set("d", 4) }()
	cancel()
	require.ErrorIs(t, <-sent, matrix.ErrUnknownOutcome)
	err = <-waiting
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, matrix.ErrUnknownOutcome, "it was never sent")
	close(release)
	require.NoError(t, <-patient)
	require.JSONEq(t, `{"a":1,"c":3}`, bot.Standing(t, r.Room)[""])
}

// A deadline that is sooner than the memory's timeout is found in the error, also where
// the operation gives up before it has passed, as another attempt would come too late.
func TestWithContextDeadline(t *testing.T) {
	const deadline = 2 * time.Second
	for name, test := range map[string]struct {
		fault homeserver.Action
		acted bool // the homeserver may have stored the change
	}{
		"rate limited":      {homeserver.RateLimitBody(10_000), false},
		"out of order":      {homeserver.Status(http.StatusServiceUnavailable, nil, ""), true},
		"no answer":         {homeserver.BlackHole(), true},
		"connections reset": {homeserver.ResetBefore(), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bot := rig.Register(t)
			r := rig.Behind(t, rig.Proxy(t), bot, bot.Config(bot.NewRoom(t)))
			r.Front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: test.fault})
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			start := time.Now()
			err := r.InRoom("main").WithContext(ctx).Set("tea", "green")
			require.Less(t, time.Since(start), deadline+time.Second)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, test.acted, errors.Is(err, matrix.ErrUnknownOutcome), err)
		})
	}
}

// Nobody's operation waits longer than its context for a new login that another needs
// as well.
func TestWithContextDoesNotWaitForALogin(t *testing.T) {
	bot := rig.Register(t)
	conf := bot.Config(bot.NewRoom(t))
	conf.AccessToken, conf.UserID, conf.Password = "", bot.UserID.String(), bot.Password
	r := rig.Behind(t, rig.Proxy(t), bot, conf)
	other := bot.NewRoom(t).String()
	reached, release := make(chan struct{}), make(chan struct{})
	login := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/login") }
	r.Front.Inject(homeserver.Fault{Match: login, Times: 1, Do: homeserver.PauseBefore(reached, release)})
	_, err := r.Memory.Client().LogoutAll(t.Context())
	require.NoError(t, err)
	<-reached // the sync loop logs in
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = r.InRoom(other).WithContext(ctx).Keys()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(start), 5*time.Second)
	close(release)
	_, err = r.InRoom(other).Keys()
	require.NoError(t, err, "the new login is there")
}

// What a context carries is for none of the memory's requests.
func TestWithContextHidesItsValues(t *testing.T) {
	bot := rig.Register(t)
	memory := rig.Open(t, bot.Config(bot.NewRoom(t)))
	other := bot.NewRoom(t)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { t.Error("a request is traced") },
	})
	handle := memory.InRoom(bot.NewAlias(t, other).String()).WithContext(ctx)
	require.NoError(t, handle.Set("tea", "green"))
	_, err := handle.Get("tea", nil)
	require.NoError(t, err)
}

// The errors of decoding say what does not fit, and not the value.
func TestErrorsOfDecodingShowNoValue(t *testing.T) {
	bot := rig.Register(t)
	memory := rig.Open(t, bot.Config(bot.NewRoom(t)))
	room := memory.InRoom("main")
	require.NoError(t, room.Set("pin", 987654321))
	require.NoError(t, room.Set("password", "hunter2"))
	require.NoError(t, room.Set("person", map[string]any{"age": 987654321}))
	require.NoError(t, memory.Set("text", []byte("hunter2 is no JSON")))

	var pin uint8
	_, err := room.Get("pin", &pin)
	require.ErrorContains(t, err, `get "pin"`)
	require.ErrorContains(t, err, "decoding the value into a *uint8: a JSON number is no Go uint8")
	require.NotContains(t, err.Error(), "987654321")
	var unfit *json.UnmarshalTypeError
	require.ErrorAs(t, err, &unfit, "the decoder's own error is there")

	var person struct {
		Age int8 `json:"age"`
	}
	_, err = room.Get("person", &person)
	require.ErrorContains(t, err, "a JSON number is no Go int8, in age")
	require.NotContains(t, err.Error(), "987654321")

	_, err = room.Get("text", &person)
	require.ErrorContains(t, err, "it is no JSON, at byte 1")

	var when time.Time
	_, err = room.Get("password", &when)
	require.ErrorContains(t, err, "*time.ParseError")
	require.NotContains(t, err.Error(), "hunter2")
}
