package test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// unknown makes the next write one whose outcome is unknown: the answer is lost,
// and when the write is sent again, it is refused.
func unknown(front *homeserver.Proxy, lost homeserver.Action) {
	front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: lost})
	front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: rig.Forbidden})
}

// When the answer to a write is lost for good, the error says that the outcome is
// unknown, and the state event is read again before it is written again.
func TestUnknownOutcome(t *testing.T) {
	bot := rig.Register(t)
	for name, layout := range rig.Layouts {
		for outcome, lost := range map[string]homeserver.Action{"stored": homeserver.ResetAfter(), "not stored": homeserver.ResetBefore()} {
			t.Run(name+" "+outcome, func(t *testing.T) {
				t.Parallel()
				front := rig.Proxy(t)
				front.Inject(homeserver.Fault{Match: rig.FollowUp, Do: homeserver.BlackHole()}) // else sync tells
				r := behind(t, front, bot, 30*time.Second, layout)
				require.NoError(t, r.Set("tea", []byte(`"old"`)))

				reached, release := make(chan struct{}), make(chan struct{})
				unpause := front.Inject(homeserver.Fault{Match: rig.StateRead, Do: homeserver.PauseBefore(reached, release)})
				unknown(r.Front, lost)
				err := r.Set("tea", []byte(`"secret"`))
				r.Failed(t, err, "set", "tea")
				require.ErrorContains(t, err, "the outcome is unknown")
				require.ErrorIs(t, err, matrix.ErrUnknownOutcome)
				answered(t, err, "M_FORBIDDEN")
				rig.Has(t, r.Memory, "tea", `"old"`)
				<-reached
				front.Reset()
				written := make(chan error, 1)
				go func() { written <- r.Set("tea", []byte(`"new"`)) }()
				rig.Has(t, r.Memory, "tea", `"old"`)
				require.Zero(t, r.Writes(), "no write before the event was read again")
				unpause()
				close(release)
				require.NoError(t, <-written)
				require.Equal(t, 1, r.Writes())
				rig.Has(t, r.Memory, "tea", `"new"`)
				events := 2
				if outcome == "stored" {
					events++
				}
				eventually(t, func() bool { return r.History(t) >= events }, "the room's history")
				require.Equal(t, events, r.History(t))
			})
		}
	}
}

// What a write without an answer has stored is there after all, also when it is
// only read.
func TestUnknownOutcomeSettles(t *testing.T) {
	bot := rig.Register(t)
	front := rig.Proxy(t)
	front.Inject(homeserver.Fault{Match: rig.FollowUp, Do: homeserver.BlackHole()})
	r := behind(t, front, bot, 30*time.Second, matrix.OneStateKey)
	require.NoError(t, r.Set("coffee", []byte(`"black"`)))
	unknown(r.Front, homeserver.ResetAfter())
	require.ErrorIs(t, r.Set("tea", []byte(`"green"`)), matrix.ErrUnknownOutcome)
	eventually(t, func() bool { _, ok, err := r.Get("tea"); return ok && err == nil }, "the value that was stored")
	front.Reset()
	require.NoError(t, r.Set("tea", []byte(`"green"`)))
	require.Equal(t, 1, r.Writes(), "it is sent, as the first request may still arrive")
	rig.Has(t, r.Memory, "coffee", `"black"`)

	unknown(r.Front, homeserver.StatusAfter(500))
	_, err := r.Delete("tea")
	r.Failed(t, err, "delete", "tea")
	require.ErrorIs(t, err, matrix.ErrUnknownOutcome)
	eventually(t, func() bool { _, ok, err := r.Get("tea"); return !ok && err == nil }, "the delete that was done")
	was, err := r.Delete("tea")
	require.NoError(t, err)
	require.False(t, was)
	require.JSONEq(t, `{"coffee":"black"}`, bot.Standing(t, r.Room)[""])
}
