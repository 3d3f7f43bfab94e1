package rig

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"

	"github.com/go-joe/matrix-memory/internal/homeserver"
)

var (
	syncs    = Eventually(10 * time.Second)
	recovers = Eventually(time.Minute) // longer than the session may pause after sync has failed
)

// News makes sync bring something: a change of the power levels, which differs for
// each n.
func (p Proxied) News(t testing.TB, n int) {
	t.Helper()
	p.level(t, p.levels(t), n)
}

// levels returns the power levels: who may do what stays.
func (p Proxied) levels(t testing.TB) (levels map[string]any) {
	t.Helper()
	require.NoError(t, p.StateEvent(t.Context(), p.Room, event.StatePowerLevels, "", &levels))
	return levels
}

func (p Proxied) level(t testing.TB, levels map[string]any, n int) {
	t.Helper()
	levels["n"] = n
	_, err := p.SendStateEvent(t.Context(), p.Room, event.StatePowerLevels, "", levels)
	require.NoError(t, err)
}

// LoseSync lets sync fail from now on, and returns when it does. The function that
// it returns lets sync work again, and returns when the memory has seen all there
// is.
func (p Proxied) LoseSync(t testing.TB) (restore func()) {
	t.Helper()
	remove := p.Front.Inject(homeserver.Fault{Match: FollowUp, Do: homeserver.Status(502, nil, "")})
	p.News(t, -1)
	syncs(t, func() bool {
		seen := p.Seen(FollowUp)
		return len(seen) > 0 && seen[len(seen)-1].Status == http.StatusBadGateway
	}, "sync fails")
	return func() {
		t.Helper()
		before := len(p.Seen(FollowUp))
		remove()
		recovers(t, func() bool {
			seen := p.Seen(FollowUp)
			for _, request := range seen[before:] {
				if request.Status == http.StatusOK { // what it brought is seen when the next one comes
					return seen[len(seen)-1].Time.After(request.Time)
				}
			}
			return false
		}, "sync works again")
	}
}

// Gap loses sync, does something, and lets so much happen besides that sync leaves some of
// it out. It returns what LoseSync does.
func (p Proxied) Gap(t testing.TB, during func()) (restore func()) {
	t.Helper()
	restore = p.LoseSync(t)
	during()
	levels := p.levels(t)
	for i := range 25 {
		p.level(t, levels, i)
	}
	return restore
}

// InStep waits until sync has brought what the memory wrote so far.
func (p Proxied) InStep(t testing.TB) {
	t.Helper()
	for n := range 2 { // the first ends a sync that may have begun before the last write
		before := len(p.Seen(FollowUp))
		p.News(t, -2-n)
		syncs(t, func() bool { return len(p.Seen(FollowUp)) > before }, "the next sync")
	}
}

// RefuseToken lets the next sync's token be refused from now on, and only that one. What
// it returns says whether it has been.
func RefuseToken(front *homeserver.Proxy, refuse homeserver.Action) (refused func() bool) {
	var mu sync.Mutex
	var token string
	front.Inject(homeserver.Fault{Do: refuse, Match: func(q *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if token == "" && FollowUp(q) {
			token = q.URL.Query().Get("since")
		}
		return FollowUp(q) && q.URL.Query().Get("since") == token
	}})
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		return token != ""
	}
}
