package session_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// filter returns what the latest sync was sent as its filter.
func (c *connection) filter(t *testing.T) (filter string) {
	t.Helper()
	for _, request := range c.Front.Requests() {
		if homeserver.Seen(rig.FollowUp)(request) {
			path, err := url.ParseRequestURI(request.Path)
			require.NoError(t, err)
			filter = path.Query().Get("filter")
		}
	}
	return filter
}

// isID says whether a filter is the ID of one.
func isID(filter string) bool { return filter != "" && !strings.HasPrefix(filter, "{") }

// becomesID waits until the homeserver is sent the ID of the filter.
func (c *connection) becomesID(t *testing.T, account rig.Account, n int) {
	t.Helper()
	room := account.NewRoom(t)
	for end := n + 6; !isID(c.filter(t)); n++ {
		require.Less(t, n, end, "syncs are still sent the filter itself")
		c.follows(t, account, room, n)
	}
	c.follows(t, account, room, n)
	require.Contains(t, c.Brought(room), content(n))
}

// The homeserver is asked to keep the filter once some syncs were sent it, and to keep it again
// after sync has failed, as by then its ID may be another's.
func TestFilterIsStored(t *testing.T) {
	account := rig.Register(t)
	c := connect(t, account)
	eventually(t, func() bool { return c.filter(t) != "" }, "sync goes on")
	require.False(t, isID(c.filter(t)), "who syncs seldom stores nothing")
	require.Zero(t, c.count(homeserver.FilterStore))
	c.becomesID(t, account, 0)
	require.Equal(t, 1, c.count(homeserver.FilterStore))

	remove := c.Front.Inject(homeserver.Fault{Match: rig.FollowUp, Do: homeserver.Status(http.StatusBadGateway, nil, "")})
	before := c.count(rig.FollowUp)
	account.NewRoom(t)                                                                           // ends the sync that is under way
	eventually(t, func() bool { return c.count(rig.FollowUp) >= before+2 }, "it is tried again") // the first had the ID
	require.False(t, isID(c.filter(t)))
	remove()
	eventually(t, func() bool { return c.Anew() == 1 }, "sync works again")
	c.becomesID(t, account, 100)
	require.Equal(t, 2, c.count(homeserver.FilterStore))
}

// A homeserver that does not keep the filter, or forgets it, is sent it as it is.
func TestFilterIsNotStored(t *testing.T) {
	for name, answer := range map[string]homeserver.Action{
		"it refuses":      homeserver.Status(http.StatusForbidden, nil, `{"errcode":"M_FORBIDDEN"}`),
		"it has no words": homeserver.Status(http.StatusNotFound, nil, `{"errcode":"M_UNRECOGNIZED"}`),
		"a page":          homeserver.Page(http.StatusOK),
		"no ID":           homeserver.Status(http.StatusOK, nil, `{}`),
		"a lost answer":   homeserver.ResetAfter(),
	} {
		t.Run(name, func(t *testing.T) {
			account := rig.Register(t)
			room := account.NewRoom(t)
			c := connect(t, account)
			c.Front.Inject(homeserver.Fault{Match: homeserver.FilterStore, Do: answer})
			for n := range 8 {
				c.follows(t, account, room, n)
			}
			require.False(t, isID(c.filter(t)))
			require.Equal(t, 1, c.count(homeserver.FilterStore), "it is asked once")
			require.Zero(t, c.Anew(), "sync has not failed")
		})
	}
	t.Run("it forgets", func(t *testing.T) {
		account := rig.Register(t)
		room := account.NewRoom(t)
		c := connect(t, account)
		c.Front.Inject(homeserver.Fault{Match: func(r *http.Request) bool { return rig.FollowUp(r) && isID(r.URL.Query().Get("filter")) },
			Do: homeserver.Status(http.StatusBadRequest, nil, `{"errcode":"M_INVALID_PARAM","error":"No such filter"}`)}) // as Synapse says it
		for n := range 12 {
			c.follows(t, account, room, n)
		}
		require.Positive(t, c.count(homeserver.FilterStore))
		require.Equal(t, 1, c.count(first), "nothing is wrong with the token")
	})
}
