package adapter_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/adapter"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// proxied starts a bot behind a proxy, and returns what breaks its sync.
func proxied(t *testing.T, s setup) (b *bot, breakSync func() (mend func())) {
	t.Helper()
	proxy := rig.Proxy(t)
	s.homeserver = proxy.URL()
	b = start(t, s)
	t.Cleanup(b.stop)
	return b, func() func() {
		return proxy.Inject(homeserver.Fault{Match: homeserver.Sync, Do: homeserver.Status(502, nil, `{}`)})
	}
}

// ids returns the IDs of messages.
func ids(events []joe.ReceiveMessageEvent) []id.EventID {
	var all []id.EventID
	for _, evt := range events {
		all = append(all, id.EventID(evt.ID))
	}
	return all
}

// After trouble with the homeserver every message is heard, once and in order,
// however many there were.
func TestNothingMissedOrRepeatedAfterAGap(t *testing.T) {
	t.Cleanup(adapter.Bound(5, 4, 500, 50))
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	var heard record[joe.ReceiveMessageEvent]
	b, breakSync := proxied(t, setup{user: robot, handlers: func(b *bot) { b.Brain.RegisterHandler(heard.add) }})

	var said []id.EventID
	say := func(n int) {
		for range n {
			said = append(said, alice.say(t, room, fmt.Sprint("message ", len(said))))
		}
	}
	say(3)
	heard.wait(t, 3)
	for _, n := range []int{3, 16} { // in a timeline, and more than one page
		mend := breakSync()
		say(n / 2)
		require.NoError(t, robot.SetDisplayName(t.Context(), fmt.Sprint("Marvin ", n))) // which is no joining
		say(n - n/2)
		mend()
		require.Equal(t, said, ids(heard.wait(t, len(said))))
	}
	say(3)
	heard.wait(t, len(said))
	b.stop()
	require.Equal(t, said, ids(heard.list()))
	require.NotContains(t, b.log.String(), "skipped")
}

// A homeserver that no longer takes the token of the sync is asked without one. What was
// said meanwhile is heard, once and in order, in a room that the bot joined meanwhile too,
// and nothing older.
func TestNothingMissedOrRepeatedWhenSyncBeginsAnew(t *testing.T) {
	t.Cleanup(adapter.Bound(5, 4, 500, 50))
	robot, alice := register(t), register(t)
	known, joined, quiet := alice.newRoom(t, robot), alice.newRoom(t), alice.newRoom(t, robot)
	alice.say(t, known, "before the bot was here")
	alice.say(t, joined, "before the bot was here")
	alice.say(t, quiet, "before the bot was here")
	var heard record[joe.ReceiveMessageEvent]
	proxy := rig.Proxy(t)
	b := start(t, setup{user: robot, homeserver: proxy.URL(), handlers: func(b *bot) { b.Brain.RegisterHandler(heard.add) }})
	t.Cleanup(b.stop)
	said := make(map[id.RoomID][]id.EventID)
	say := func(room id.RoomID, n int) {
		for range n {
			said[room] = append(said[room], alice.say(t, room, fmt.Sprint("message ", len(said[room]))))
		}
	}
	all := func() map[id.RoomID][]id.EventID {
		all := make(map[id.RoomID][]id.EventID)
		for _, evt := range heard.list() {
			room := id.RoomID(evt.Channel)
			all[room] = append(all[room], id.EventID(evt.ID))
		}
		return all
	}
	say(known, 3)
	heard.wait(t, 3)
	for _, n := range []int{2, 16} { // in a timeline, and more than one page
		mend := proxy.Inject(homeserver.Fault{Match: homeserver.Sync, Do: homeserver.Status(502, nil, `{}`)})
		say(known, n)
		if n == 16 {
			_, err := alice.InviteUser(t.Context(), joined, &mautrix.ReqInviteUser{UserID: robot.UserID})
			require.NoError(t, err)
			_, err = robot.JoinRoomByID(t.Context(), joined)
			require.NoError(t, err)
			say(joined, n)
		}
		anew := false // the proxy calls one matcher at a time
		proxy.Inject(homeserver.Fault{
			Match: func(r *http.Request) bool {
				anew = anew || homeserver.Sync(r) && !rig.FollowUp(r)
				return rig.FollowUp(r) && !anew
			},
			Do: homeserver.Status(400, nil, `{"errcode":"M_UNKNOWN_POS","error":"Unknown position"}`),
		})
		mend()
		eventually(t, func() bool { return len(heard.list()) >= len(said[known])+len(said[joined]) }, "something was missed")
		require.Equal(t, said, all())
	}
	say(known, 1)
	say(quiet, 1)
	eventually(t, func() bool { return len(heard.list()) >= len(said[known])+len(said[joined])+1 }, "something was missed")
	b.stop()
	require.Equal(t, said, all())
}

// A gap in a room that the bot has just joined goes back to its joining, and no further.
func TestGapAfterJoining(t *testing.T) {
	t.Cleanup(adapter.Bound(5, 4, 500, 50))
	robot, alice := register(t), register(t)
	room := alice.newRoom(t)
	alice.say(t, room, "before the bot was here")
	var heard record[joe.ReceiveMessageEvent]
	b, breakSync := proxied(t, setup{user: robot, handlers: func(b *bot) { b.Brain.RegisterHandler(heard.add) }})
	alice.say(t, b.user.newRoom(t, alice), "ping") // ends the sync that is under way
	heard.wait(t, 1)

	mend := breakSync()
	_, err := alice.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: robot.UserID})
	require.NoError(t, err)
	_, err = robot.JoinRoomByID(t.Context(), room)
	require.NoError(t, err)
	var said []id.EventID
	for i := range 12 {
		said = append(said, alice.say(t, room, fmt.Sprint("message ", i)))
	}
	mend()
	require.Equal(t, said, ids(heard.wait(t, 1+len(said)))[1:])
	b.stop()
	require.Len(t, heard.list(), 1+len(said))
}

// A gap that is too long is said.
func TestGapTooLong(t *testing.T) {
	t.Cleanup(adapter.Bound(5, 4, 8, 50))
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	var heard record[joe.ReceiveMessageEvent]
	b, breakSync := proxied(t, setup{user: robot, handlers: func(b *bot) { b.Brain.RegisterHandler(heard.add) }})
	alice.say(t, room, "first")
	heard.wait(t, 1)
	mend := breakSync()
	var said []id.EventID
	for i := range 20 {
		said = append(said, alice.say(t, room, fmt.Sprint("message ", i)))
	}
	mend()
	eventually(t, func() bool {
		all := ids(heard.list())
		return all[len(all)-1] == said[len(said)-1]
	}, "the last message was not heard")
	b.stop()
	events := ids(heard.list())
	require.GreaterOrEqual(t, len(events), 13)
	require.Equal(t, said[len(said)-13:], events[len(events)-13:])
	require.Contains(t, b.log.String(), "skipped")
}

// A gap is filled although a memory was written meanwhile, more than a page of it.
func TestGapFullOfMemory(t *testing.T) {
	t.Cleanup(adapter.Bound(5, 4, 8, 50))
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	var heard record[joe.ReceiveMessageEvent]
	b, breakSync := proxied(t, setup{user: robot, handlers: func(b *bot) { b.Brain.RegisterHandler(heard.add) }})
	mend := breakSync()
	said := []id.EventID{alice.say(t, room, "ends the sync that is under way")}
	eventually(t, func() bool { return strings.Contains(b.log.String(), "Sync fails") }, "sync works")
	for i := range 3 {
		said = append(said, alice.say(t, room, fmt.Sprint("before ", i)))
	}
	for i := range 20 {
		require.NoError(t, b.memory.InRoom(room.String()).Set("counter", i))
	}
	said = append(said, alice.say(t, room, "after"))
	mend()
	require.Equal(t, said, ids(heard.wait(t, len(said))))
	b.stop()
	require.Equal(t, said, ids(heard.list()))
	require.NotContains(t, b.log.String(), "skipped")
}

// There is an end to going back, and it is said.
func TestGapOfTooManyPages(t *testing.T) {
	t.Cleanup(adapter.Bound(5, 4, 500, 3))
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	var heard record[joe.ReceiveMessageEvent]
	b, breakSync := proxied(t, setup{user: robot, handlers: func(b *bot) { b.Brain.RegisterHandler(heard.add) }})
	mend := breakSync()
	alice.say(t, room, "ends the sync that is under way")
	eventually(t, func() bool { return strings.Contains(b.log.String(), "Sync fails") }, "sync works")
	alice.say(t, room, "too long ago")
	for i := range 30 {
		require.NoError(t, b.memory.InRoom(room.String()).Set("counter", i))
	}
	alice.say(t, room, "last")
	mend()
	eventually(t, func() bool {
		all := heard.list()
		return len(all) > 0 && all[len(all)-1].Text == "last"
	}, "the last message was not heard")
	b.stop()
	for _, evt := range heard.list() {
		require.NotEqual(t, "too long ago", evt.Text)
	}
	require.True(t, strings.Contains(b.log.String(), "skipped"))
}

// However much is written between what was heard and a gap, what was heard is not
// heard again, and what was said before the start is not heard at all.
func TestNothingRepeatedAfterMuchMemory(t *testing.T) {
	t.Cleanup(adapter.Bound(5, 1000, 500, 50))
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	for i := range 12 {
		alice.say(t, room, fmt.Sprint("before the start ", i))
	}
	var heard record[joe.ReceiveMessageEvent]
	b, breakSync := proxied(t, setup{user: robot, handlers: func(b *bot) { b.Brain.RegisterHandler(heard.add) }})
	var said []id.EventID
	say := func(n int) {
		for range n {
			said = append(said, alice.say(t, room, fmt.Sprint("message ", len(said))))
		}
	}
	say(3)
	heard.wait(t, len(said))
	for i := range 30 {
		require.NoError(t, b.memory.InRoom(room.String()).Set("counter", i))
	}
	mend := breakSync()
	say(8)
	mend()
	heard.wait(t, len(said))
	say(1)
	heard.wait(t, len(said))
	b.stop()
	require.Equal(t, said, ids(heard.list()))
}
