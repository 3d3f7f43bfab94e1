package test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

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
	rig.NoLeaks(t)
	front := rig.Proxy(t)
	front.Inject(homeserver.Fault{Times: 1, Do: limited("1", "")})
	r := behind(t, front, rig.Register(t), 20*time.Second, matrix.OneStateKey)
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
		puts := r.Seen(homeserver.StateWrite)
		require.Len(t, puts, 2, test.name)
		require.GreaterOrEqual(t, puts[1].Time.Sub(puts[0].Time), test.atLeast, test.name)
	}
	require.JSONEq(t, `{"tea":"past date"}`, r.Standing(t, r.Room)[""])

	front.Reset()
	front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: limited("3600", "10")})
	rig.Within(t, slack, "a wait beyond the timeout is not begun", func() {
		err := r.Set("tea", []byte(`"secret"`))
		r.Failed(t, err, "set", "tea")
		answered(t, err, "M_LIMIT_EXCEEDED")
		require.ErrorContains(t, err, "asks to wait 1h0m0s, longer than the timeout of 20s leaves")
		require.NotErrorIs(t, err, matrix.ErrUnknownOutcome)
	})
	require.Equal(t, 1, r.Writes())
	rig.Has(t, r.Memory, "tea", `"past date"`)
}

// The sync loop obeys a limit as well.
func TestSyncRateLimited(t *testing.T) {
	front := rig.Proxy(t)
	front.Inject(homeserver.Fault{Match: rig.FollowUp, Times: 1, Do: limited("", "1200")})
	r := behind(t, front, rig.Register(t), 15*time.Second, matrix.OneStateKey)
	eventually(t, func() bool { return len(r.Seen(rig.FollowUp)) > 1 }, "the sync goes on")
	polls := r.Seen(rig.FollowUp)
	require.GreaterOrEqual(t, polls[1].Time.Sub(polls[0].Time), 1200*time.Millisecond)
}
