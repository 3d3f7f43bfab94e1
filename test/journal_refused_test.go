package test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A tenant is a bot with a journal in two rooms of somebody else's: one in which something
// will be wrong, and another one.
type tenant struct {
	owner, bot  rig.Account // of both rooms, and a member
	room, other id.RoomID
	conf        matrix.Config
	front       *homeserver.Proxy
	memory      *matrix.Memory
	kept        *rig.Buffer
	through     func() // lets changes come through
}

// newTenant opens the memory of one whose changes don't come through for now.
func newTenant(t *testing.T, layout matrix.StateKey) *tenant {
	t.Helper()
	r := &tenant{owner: rig.Register(t), bot: rig.Register(t), front: rig.Proxy(t)}
	r.room, r.other = r.owner.NewRoom(t, r.bot, rig.Writable), r.owner.NewRoom(t, r.bot, rig.Writable)
	r.conf = rig.Journalled(t, r.front, r.bot, r.other, layout)
	r.conf.Rooms["room"] = r.room.String()
	r.open(t)
	require.NoError(t, r.memory.InRoom("room").Set("before", 1))
	rig.Flush(t, r.memory, rig.Delivering)
	r.through = r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.RateLimitBody(200)})
	return r
}

func (r *tenant) open(t *testing.T) {
	t.Helper()
	log, kept := rig.KeepLog()
	r.memory, r.kept = rig.Open(t, r.conf, matrix.WithLogger(log)), kept
}

// level says which power level the memory's events need in the room.
func (r *tenant) level(t testing.TB, need int) { t.Helper(); r.owner.Need(t, r.room, need) }

// dead waits until just one change is refused, and no other is pending, and checks all that
// holds then: it is seen, Flush says which it is, and the log says this, once.
func (r *tenant) dead(t *testing.T, key string, says ...string) {
	t.Helper()
	rig.Pending(t, r.memory, 1, 1)
	require.False(t, r.memory.Pending().Since.IsZero())
	ok, err := r.memory.InRoom("room").Get(key, nil)
	require.NoError(t, err)
	require.True(t, ok, "it stays visible")
	var failure *matrix.Error
	rig.Within(t, slack, "Flush, which does not wait for that", func() {
		ctx, cancel := context.WithTimeout(t.Context(), rig.Delivering)
		defer cancel()
		require.ErrorAs(t, r.memory.Flush(ctx), &failure)
	})
	require.Equal(t, "flush", failure.Op)
	require.ErrorContains(t, failure, r.room.String())
	require.ErrorContains(t, failure, key)
	require.NotErrorIs(t, failure, context.DeadlineExceeded)
	require.NotContains(t, failure.Error(), "secret")
	if says != nil {
		rig.Warned(t, r.kept, append(says, r.room.String(), key)...)
	}
}

// What can be known before is an error of Set, and nothing is pending.
func TestForbiddenIsKnownBefore(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newTenant(t, layout)
			r.through()
			r.level(t, 100)
			r.front.Reset()
			rig.Delivers(t, func() bool {
				err := r.memory.InRoom("room").Set("late", "secret")
				if err == nil { // it has not heard of it yet
					return false
				}
				require.ErrorIs(t, err, matrix.ErrForbidden)
				require.ErrorContains(t, err, "power level")
				return true
			}, "the power level is too low")
			before := r.memory.Pending()
			require.ErrorIs(t, r.memory.InRoom("room").Set("tea", "secret"), matrix.ErrForbidden)
			_, err := r.memory.InRoom("room").Delete("before")
			require.ErrorIs(t, err, matrix.ErrForbidden)
			require.Equal(t, before.Changes, r.memory.Pending().Changes)
			ok, err := r.memory.InRoom("room").Get("tea", nil)
			require.NoError(t, err)
			require.False(t, ok)

			// As with what does not fit.
			err = r.memory.Set("large", []byte(`"`+strings.Repeat("x", 70_000)+`"`))
			require.ErrorIs(t, err, matrix.ErrTooLarge)
			rig.Has(t, r.memory, "large", "")
			require.Equal(t, before.Changes, r.memory.Pending().Changes)
		})
	}
}

// The bot may no longer write in a room whose changes are pending. They stay, hold up no
// other room, outlive a start, and go out once it may again.
func TestForbiddenWhilePending(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newTenant(t, layout)
			require.NoError(t, r.memory.InRoom("room").Set("tea", "secret green"))
			require.NoError(t, r.memory.Set("fine", []byte(`1`)))
			r.level(t, 100)
			r.through()
			r.dead(t, "tea", "power level")
			require.Equal(t, map[string]string{"fine": `1`}, r.owner.Entries(t, r.other))
			require.Equal(t, map[string]string{"before": `1`}, r.owner.Entries(t, r.room))

			require.NoError(t, r.memory.Close())
			r.open(t)
			require.NoError(t, r.memory.Set("more", []byte(`1`)))
			r.dead(t, "tea")

			r.level(t, 0)
			rig.Pending(t, r.memory, 0, 0)
			rig.Flush(t, r.memory, rig.Delivering)
			require.Equal(t, map[string]string{"before": `1`, "tea": `"secret green"`}, r.owner.Entries(t, r.room))
		})
	}
}

// Others have filled the dictionary by the time that a change goes out, so that it does not
// fit any more. The others of the batch are delivered. The next start after there is room
// again delivers it, too.
func TestTooLargeInTheEnd(t *testing.T) {
	for _, name := range []string{"single", "custom"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			layout := rig.Layouts[name]
			r := newTenant(t, layout)
			half := strings.Repeat("x", 30_000)
			room := r.memory.InRoom("room")
			for i := range 5 {
				require.NoError(t, room.Set(fmt.Sprint("small ", i), i))
			}
			require.NoError(t, room.Set("large", "secret "+half))
			for i := range 5 {
				require.NoError(t, room.Set(fmt.Sprint("small ", 5+i), 5+i))
			}
			var anew atomic.Bool // something was to be sent that has theirs
			through := r.front.Inject(homeserver.Fault{Do: homeserver.RateLimitBody(200), Match: func(request *http.Request) bool {
				if writeOf("theirs")(request) {
					anew.Store(true)
				}
				return homeserver.StateWrite(request)
			}})
			r.through()
			others := rig.Opsdroid{Account: r.owner, Room: r.room, Layout: layout}
			require.NoError(t, others.Put(t.Context(), "theirs", `"`+half+half[:5_000]+`"`))
			rig.Delivers(t, anew.Load, "what is under way is made anew with what the bot has heard")
			through()
			r.dead(t, "large", "too large")
			held := r.owner.Entries(t, r.room)
			require.Len(t, held, 12)
			require.NotContains(t, held, "large")

			require.NoError(t, others.Delete(t.Context(), "theirs"))
			require.NoError(t, r.memory.Close())
			r.open(t)
			rig.Pending(t, r.memory, 0, 0)
			rig.Flush(t, r.memory, rig.Delivering)
			held = r.owner.Entries(t, r.room)
			require.Equal(t, `"secret `+half+`"`, held["large"])
			require.Len(t, held, 12)
		})
	}
}

// Homeservers may have rules of their own on what an event may hold, and say by M_FORBIDDEN, too, that
// one breaks them. What is refused is found among the changes that go out together; the others
// are delivered, and it holds up none that come later.
func TestOneIsRefusedAmongOthers(t *testing.T) {
	for name, layout := range rig.Layouts {
		for _, code := range []string{"M_FORBIDDEN", "M_BAD_JSON"} {
			t.Run(name+" "+code, func(t *testing.T) {
				t.Parallel()
				r := newTenant(t, layout)
				room := r.memory.InRoom("room")
				want := map[string]string{"before": `1`}
				for i := range 12 {
					key := fmt.Sprint("key ", i)
					if i == 7 {
						require.NoError(t, room.Set(key, "secret"))
						continue
					}
					require.NoError(t, room.Set(key, i))
					want[key] = fmt.Sprint(i)
				}
				r.front.Inject(homeserver.Fault{Match: writeOf("secret"), Do: homeserver.Status(map[string]int{"M_FORBIDDEN": 403, "M_BAD_JSON": 400}[code], nil, `{"errcode":"`+code+`","error":"as the test says"}`)})
				r.through()
				r.dead(t, "key 7", code)
				require.Equal(t, want, r.owner.Entries(t, r.room))
				require.NoError(t, room.Set("later", 1))
				rig.Pending(t, r.memory, 1, 1)
				want["later"] = `1`
				require.Equal(t, want, r.owner.Entries(t, r.room))
				require.NoError(t, room.Set("key 7", 7))
				rig.Pending(t, r.memory, 0, 0)
				require.Equal(t, `7`, r.owner.Entries(t, r.room)["key 7"])
			})
		}
	}
}

// Where the bot may not even read the room, nobody looks for which of its changes that is about.
func TestAllAreRefusedAtOnce(t *testing.T) {
	r := newTenant(t, matrix.OneStateKey)
	room := r.memory.InRoom("room")
	for i := range 12 {
		require.NoError(t, room.Set(fmt.Sprint("key ", i), i))
	}
	var writes atomic.Int32
	r.front.Inject(homeserver.Fault{Match: rig.StateRead, Do: rig.Forbidden})
	r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: func(w http.ResponseWriter, q *http.Request, server http.Handler) {
		writes.Add(1)
		rig.Forbidden(w, q, server)
	}})
	r.through()
	rig.Pending(t, r.memory, 12, 12)
	require.LessOrEqual(t, writes.Load(), int32(2), "what was under way already, and all the rest")
}

// writeOf matches writes of a state event that holds a text.
func writeOf(text string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		if !homeserver.StateWrite(r) {
			return false
		}
		body, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		return err == nil && bytes.Contains(body, []byte(text))
	}
}

// The bot is taken out of a room whose changes are pending, and comes back.
func TestLeftAndRejoinedWhilePending(t *testing.T) {
	r := newTenant(t, matrix.OneStateKey)
	require.NoError(t, r.memory.InRoom("room").Set("tea", "secret green"))
	require.NoError(t, r.memory.Set("fine", []byte(`1`)))
	_, err := r.owner.KickUser(t.Context(), r.room, &mautrix.ReqKickUser{UserID: r.bot.UserID})
	require.NoError(t, err)
	r.through()
	rig.Pending(t, r.memory, 1, 1)
	require.Equal(t, map[string]string{"fine": `1`}, r.owner.Entries(t, r.other))
	rig.Warned(t, r.kept, r.room.String(), "tea")
	require.Equal(t, map[string]string{"before": `1`}, r.owner.Entries(t, r.room))

	_, err = r.owner.InviteUser(t.Context(), r.room, &mautrix.ReqInviteUser{UserID: r.bot.UserID})
	require.NoError(t, err) // it is a room of the settings, which the bot joins
	rig.Pending(t, r.memory, 0, 0)
	rig.Flush(t, r.memory, rig.Delivering)
	require.Equal(t, map[string]string{"before": `1`, "tea": `"secret green"`}, r.owner.Entries(t, r.room))
	var tea string
	ok, err := r.memory.InRoom("room").Get("tea", &tea)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "secret green", tea)
}

// What is refused is not tried again because somebody says something else in the room.
func TestRefusedIsLeftInPeace(t *testing.T) {
	r := newTenant(t, matrix.OneStateKey)
	r.through()
	r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: rig.Forbidden})
	require.NoError(t, r.memory.InRoom("room").Set("dead", "secret"))
	rig.Pending(t, r.memory, 1, 1)
	others := rig.Opsdroid{Account: r.owner, Room: r.room, Layout: matrix.OneStateKey}
	before := 0
	for i := range 6 {
		if i == 1 { // the room's first news may say more than what others set
			rig.Pending(t, r.memory, 1, 1)
			before = r.front.Count(homeserver.Seen(homeserver.StateWrite))
		}
		key := fmt.Sprint("theirs ", i)
		require.NoError(t, others.Put(t.Context(), key, `1`))
		eventually(t, func() bool { ok, err := r.memory.InRoom("room").Get(key, nil); return ok && err == nil }, "it is heard")
	}
	rig.Pending(t, r.memory, 1, 1)
	require.Len(t, r.kept.Lines("can't be delivered"), 1)
	require.Equal(t, before, r.front.Count(homeserver.Seen(homeserver.StateWrite)))
}

// What does not fit is tried again whenever others change something. However that meets a Flush, it
// does not say that all is delivered.
func TestFlushWhileRefusedIsTriedAgain(t *testing.T) {
	r := newTenant(t, matrix.OneStateKey)
	r.through()
	r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Status(413, nil, `{"errcode":"M_TOO_LARGE","error":"as the test says"}`)})
	require.NoError(t, r.memory.InRoom("room").Set("large", "secret"))
	rig.Pending(t, r.memory, 1, 1)
	var flushing sync.WaitGroup
	done := make(chan struct{})
	flushing.Go(func() {
		for flushed := 0; ; flushed++ {
			select {
			case <-done:
				t.Logf("%d times", flushed)
				return
			default:
			}
			if err := r.memory.Flush(t.Context()); !assert.ErrorContains(t, err, "too large", "after %d", flushed) {
				return
			}
		}
	})
	others := rig.Opsdroid{Account: r.owner, Room: r.room, Layout: matrix.OneStateKey}
	for i := range 50 {
		require.NoError(t, others.Put(t.Context(), "theirs", fmt.Sprint(i)))
	}
	close(done)
	flushing.Wait()
}

// What is refused while it is heard that it may work by now is tried again.
func TestAllowedBeforeTheRefusalArrives(t *testing.T) {
	r := newTenant(t, matrix.OneStateKey)
	reached, release := make(chan struct{}, 1), make(chan struct{})
	r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: homeserver.PauseAfter(reached, release)})
	require.NoError(t, r.memory.InRoom("room").Set("tea", "secret green"))
	r.level(t, 100)
	r.through()
	<-reached // with the refusal
	r.level(t, 0)
	r.owner.Put(t, r.room, "", map[string]string{"later": "heard"})
	rig.Eventually(rig.Delivering)(t, func() bool {
		ok, err := r.memory.InRoom("room").Get("later", nil)
		return err == nil && ok
	}, "the bot has heard of it")
	close(release)
	rig.Pending(t, r.memory, 0, 0)
	require.Equal(t, `"secret green"`, r.owner.Entries(t, r.room)["tea"])
}
