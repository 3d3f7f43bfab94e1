package adapter_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// What nobody waits for leaves the bot something to say, however much of it there is.
func TestAnswersAreNotHeldBackByChores(t *testing.T) {
	const n = 40
	var user person
	var rooms []id.RoomID
	older := event.Type{Type: "opsdroid.database", Class: event.StateEventType}
	_, front, interval := rig.Limited(t, 4*time.Second, func(s rig.Server) {
		user = person{s.NewAccount(t)}
		for range n {
			room := user.newRoom(t)
			_, err := user.SendStateEvent(t.Context(), room, older, "", map[string]int{"old": 1})
			require.NoError(t, err)
			rooms = append(rooms, room)
		}
	})
	b := start(t, setup{user: user, home: rooms[0], homeserver: front.URL()})
	var all sync.WaitGroup
	for _, room := range rooms {
		all.Go(func() { // each room is read, and copied
			if ok, err := b.memory.InRoom(room.String()).Get("old", nil); !ok || err != nil {
				t.Error(ok, err)
			}
		})
	}
	all.Wait()
	copied := func() int {
		return front.Count(func(r homeserver.Request) bool {
			return homeserver.Seen(homeserver.StateWrite)(r) && r.Status == http.StatusOK
		})
	}
	rig.Eventually(3*time.Minute)(t, func() bool { return copied() >= 13 }, "the copying goes on at its own pace")
	require.Less(t, copied(), n, "not all are copied yet")
	saysAtOnce(t, b, front, interval)
	require.Less(t, copied(), n, "not all are copied yet")
}

// Nor do changes that wait in the journal take what the bot says.
func TestAnswersAreNotHeldBackByTheJournal(t *testing.T) {
	const changes, interval = 1000, 2 * time.Second
	front := rig.Proxy(t)
	front.Inject(homeserver.Fault{Match: rig.Sends, Do: homeserver.Limit(rig.SendsAtOnce, interval)})
	b := start(t, setup{homeserver: front.URL(), config: func(c *matrix.Config) {
		c.Journal, c.SingleStateKey = rig.Journal(t), matrix.PerKey
	}})
	for n := range changes {
		require.NoError(t, b.Store.Set(fmt.Sprint("key ", n), n))
	}
	delivered := func() int { return changes - b.memory.Pending().Changes }
	rig.Eventually(3*time.Minute)(t, func() bool { return delivered() >= 13 }, "the journal is delivered at its own pace")
	saysAtOnce(t, b, front, interval)
	require.Less(t, delivered(), changes, "not all are delivered yet")
	front.Inject(homeserver.Fault{Do: homeserver.ResetBefore()}) // what is left is not this test's subject
}

// saysAtOnce lets the bot say one thing less than what is left to it: it knows the limit only by
// the homeserver's answers.
func saysAtOnce(t *testing.T, b *bot, front *homeserver.Proxy, interval time.Duration) {
	const said = 4
	for i := range said {
		begun := time.Now()
		require.NoError(t, b.Adapter.Send(fmt.Sprint("answer ", i), "main"))
		took := time.Since(begun)
		t.Logf("answer %d took %s", i, took)
		require.Less(t, took, interval/2, "an answer waited until the limit let it go")
	}
	require.Equal(t, said, front.Count(homeserver.Seen(homeserver.EventSend)), "answers were refused")
}
