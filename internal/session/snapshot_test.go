package session_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/internal/session"
)

// standing returns the contents of a snapshot's state, by type and state key.
func standing(t *testing.T, snapshot *session.Snapshot) map[string]string {
	t.Helper()
	contents := make(map[string]string)
	for _, evt := range snapshot.State {
		key := evt.Type.Type + "|" + evt.GetStateKey()
		require.NotContains(t, contents, key, "one state event stands under a key")
		contents[key] = string(evt.Content.VeryRaw)
	}
	return contents
}

// content is what the tests put.
func content(n int) string { return fmt.Sprintf(`{"n":%d}`, n) }

func contents(from, to int) (all []string) {
	for n := from; n <= to; n++ {
		all = append(all, content(n))
	}
	return all
}

// snapshotWith waits until the homeserver's snapshot of a room ends with a content: on
// Dendrite it lags behind the writes.
func (c *connection) snapshotWith(t *testing.T, room id.RoomID, last string) (snapshot *session.Snapshot) {
	t.Helper()
	eventually(t, func() bool {
		var err error
		snapshot, err = c.Snapshot(t.Context(), room)
		require.NoError(t, err)
		all := texts(snapshot.Timeline)
		return len(all) > 0 && all[len(all)-1] == last
	}, "the snapshot has the last event, %s", last)
	return snapshot
}

// A snapshot has the latest ten of the memory's events, and what stands besides, however
// much is said in the room meanwhile.
func TestSnapshot(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t)
	c := connect(t, account)

	snapshot, err := c.Snapshot(t.Context(), room)
	require.NoError(t, err)
	require.Empty(t, snapshot.Timeline)
	require.False(t, snapshot.Limited)
	require.Len(t, standing(t, snapshot), 2, "power levels and m.room.create")

	account.Put(t, room, "old", map[string]int{"n": -1})
	for n := range 8 {
		account.Put(t, room, "", map[string]int{"n": n})
	}
	snapshot = c.snapshotWith(t, room, content(7))
	require.Equal(t, contents(-1, 7), texts(snapshot.Timeline))
	require.Len(t, standing(t, snapshot), 2)

	for n := 8; n < 12; n++ {
		account.Put(t, room, "", map[string]int{"n": n})
	}
	c.snapshotWith(t, room, content(11))
	levels := map[string]any{"users": map[string]int{account.UserID.String(): 100}, "mark": 1}
	_, err = account.SendStateEvent(t.Context(), room, event.StatePowerLevels, "", levels)
	require.NoError(t, err)
	for range 120 {
		_, err := account.SendText(t.Context(), room, "chat")
		require.NoError(t, err)
	}
	eventually(t, func() bool {
		snapshot, err = c.Snapshot(t.Context(), room)
		require.NoError(t, err)
		return strings.Contains(standing(t, snapshot)["m.room.power_levels|"], "mark")
	}, "what has changed after the memory's last event is there")
	all := texts(snapshot.Timeline)
	require.Equal(t, contents(12-len(all), 11), all)
	require.GreaterOrEqual(t, len(all), 9, "the new power levels may have taken the place of one")
	require.True(t, snapshot.Limited)
	require.NotEmpty(t, snapshot.Earlier)
	require.Equal(t, content(-1), standing(t, snapshot)["dev.opsdroid.database|old"])
	require.Len(t, standing(t, snapshot), 3)
	for i, evt := range snapshot.Timeline[1:] {
		require.Equal(t, snapshot.Timeline[i].ID, evt.Unsigned.ReplacesState)
		if before := evt.Unsigned.PrevContent; before != nil { // Dendrite's is not to be trusted
			require.Equal(t, snapshot.Timeline[i].Content.VeryRaw, before.VeryRaw)
		}
		require.Equal(t, room, evt.RoomID)
	}
}

// What else is in a room costs nothing, nor does it cost anything in which rooms the bot
// is besides.
func TestSnapshotCostsWhatTheMemoryHolds(t *testing.T) {
	account := rig.Register(t)
	var foreign []*event.Event
	for n := range 300 { // 3,000 of usual size would take minutes to make
		key := fmt.Sprint("foreign ", n)
		foreign = append(foreign, &event.Event{
			Type:     event.Type{Type: "org.example.foreign", Class: event.StateEventType},
			StateKey: &key,
			Content:  event.Content{Raw: map[string]any{"body": strings.Repeat("x", 6000)}},
		})
	}
	made, err := account.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "private_chat", InitialState: foreign})
	require.NoError(t, err)
	for range 20 {
		account.Put(t, account.NewRoom(t), "", map[string]int{"n": 0})
	}
	account.Put(t, made.RoomID, "", map[string]int{"n": 1})
	c := connect(t, account)
	c.snapshotWith(t, made.RoomID, content(1))
	c.Front.Reset()
	_, err = c.Snapshot(t.Context(), made.RoomID)
	require.NoError(t, err)
	size, requests := 0, 0
	for _, request := range c.Front.Requests() {
		if !homeserver.Seen(rig.OfSync)(request) {
			size += request.Size
			requests++
		}
	}
	t.Logf("%d bytes in %d requests", size, requests)
	require.Less(t, size, 10_000)
	require.LessOrEqual(t, requests, 3)
}

// Of many rooms that are to be read, few are read at the same time; and who asks for a
// room while it is being read shares the next read with all others.
func TestFewSnapshotsAtATime(t *testing.T) {
	account := rig.Register(t)
	c := connect(t, account)
	rooms := make([]id.RoomID, 20)
	for i := range rooms {
		rooms[i] = account.NewRoom(t)
	}
	var now, most atomic.Int64
	remove := c.Front.Inject(homeserver.Fault{Match: inRoom("context"), Do: func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		homeserver.Delay(50*time.Millisecond)(w, r, server)
	}})
	var group errgroup.Group
	for _, room := range rooms {
		for range 3 {
			group.Go(func() error { _, err := c.Snapshot(t.Context(), room); return err })
		}
	}
	require.NoError(t, group.Wait())
	require.LessOrEqual(t, most.Load(), int64(4))
	require.LessOrEqual(t, c.count(inRoom("context")), 2*len(rooms))
	remove()

	reached, release := make(chan struct{}), make(chan struct{})
	c.Front.Inject(homeserver.Fault{Match: inRoom("context"), Times: 1, Do: homeserver.PauseBefore(reached, release)})
	c.Front.Reset()
	group.Go(func() error { _, err := c.Snapshot(t.Context(), rooms[0]); return err })
	<-reached
	for range 60 {
		group.Go(func() error { _, err := c.Snapshot(t.Context(), rooms[0]); return err })
	}
	eventually(t, func() bool { return c.Asking(rooms[0]) == 60 }, "all wait")
	close(release)
	require.NoError(t, group.Wait())
	require.LessOrEqual(t, c.count(inRoom("context")), 2*2)
}

// A caller's ended context, or a room that can't be read, is that caller's own business.
func TestSnapshotsOfOthers(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t)
	c := connect(t, account)
	reached, release := make(chan struct{}), make(chan struct{})
	c.Front.Inject(homeserver.Fault{Match: inRoom("context"), Times: 1, Do: homeserver.PauseBefore(reached, release)})
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := c.Snapshot(ctx, room); first <- err }()
	<-reached
	cancel()
	require.ErrorIs(t, <-first, context.Canceled)
	go func() { _, err := c.Snapshot(t.Context(), room); second <- err }()
	for _, nowhere := range []id.RoomID{rig.Register(t).NewRoom(t), "!nowhere:localhost"} {
		_, err := c.Snapshot(t.Context(), nowhere)
		require.ErrorIs(t, err, session.ErrUnknownRoom)
		require.ErrorContains(t, err, "invite it")
	}
	close(release)
	require.NoError(t, <-second)
}

// A room can be read as soon as the bot has joined it, and no longer once it has left,
// though anybody may look into it.
func TestSnapshotNeedsMembership(t *testing.T) {
	owner, account := rig.Register(t), rig.Register(t)
	made, err := owner.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{
		Preset: "public_chat",
		InitialState: []*event.Event{{
			Type: event.StateHistoryVisibility, StateKey: new(string),
			Content: event.Content{Raw: map[string]any{"history_visibility": "world_readable"}},
		}},
	})
	require.NoError(t, err)
	owner.Put(t, made.RoomID, "", map[string]int{"n": 1})
	c := connect(t, account)
	_, err = c.Snapshot(t.Context(), made.RoomID)
	require.ErrorIs(t, err, session.ErrUnknownRoom)
	for range 3 {
		require.NoError(t, c.Join(t.Context(), made.RoomID.String()))
		snapshot, err := c.Snapshot(t.Context(), made.RoomID)
		require.NoError(t, err)
		require.Equal(t, []string{content(1)}, texts(snapshot.Timeline))
		_, err = account.LeaveRoom(t.Context(), made.RoomID)
		require.NoError(t, err)
		_, err = c.Snapshot(t.Context(), made.RoomID)
		require.ErrorIs(t, err, session.ErrUnknownRoom)
	}
}

// What was redacted is not in a snapshot, whether the event is among the latest or not,
// and however many others there are.
func TestSnapshotOfRedacted(t *testing.T) {
	account := rig.Register(t)
	c := connect(t, account)
	for _, others := range []int{0, 12, 60} {
		t.Run(fmt.Sprint(others), func(t *testing.T) {
			room := account.NewRoom(t)
			account.Put(t, room, "secret", map[string]string{"secret": "1234"})
			account.Put(t, room, "twice", map[string]string{"secret": "1234"})
			for n := range others {
				account.Put(t, room, fmt.Sprint("key ", n), map[string]int{"n": n})
			}
			all, err := account.State(t.Context(), room)
			require.NoError(t, err)
			for _, key := range []string{"secret", "twice"} {
				_, err = account.RedactEvent(t.Context(), room, all[rig.MemoryType][key].ID)
				require.NoError(t, err)
			}
			account.Put(t, room, "", map[string]int{"n": -1})
			snapshot := c.snapshotWith(t, room, content(-1))
			redacted, found := 0, 0
			for _, evt := range append(snapshot.State, snapshot.Timeline...) {
				if evt.Type.Type != rig.MemoryType.Type {
					continue
				}
				found++
				require.NotContains(t, string(evt.Content.VeryRaw), "1234")
				if evt.Unsigned.RedactedBecause != nil {
					redacted++
					require.Equal(t, "{}", string(evt.Content.VeryRaw))
				}
			}
			require.Equal(t, 2, redacted)
			require.Equal(t, others+3, found)
		})
	}
}

// What an event says of the one that it replaced is right or not there: which it was, and
// what that held.
func TestReplacedEvents(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t)
	c := connect(t, account)
	_, err := c.Snapshot(t.Context(), room) // it is known then which homeserver it is
	require.NoError(t, err)
	account.Put(t, room, "", map[string]string{"secret": "1234"})
	all, err := account.State(t.Context(), room)
	require.NoError(t, err)
	_, err = account.RedactEvent(t.Context(), room, all[rig.MemoryType][""].ID)
	require.NoError(t, err)
	for n := range 3 {
		for _, key := range []string{"other", "another", ""} {
			account.Put(t, room, key, map[string]int{"n": n})
		}
	}
	snapshot := c.snapshotWith(t, room, content(2))
	c.follows(t, account, room, 3)
	check := func(events []*event.Event) (known int) {
		last := make(map[string]*event.Event)
		for _, evt := range events {
			key := evt.GetStateKey()
			if replaced := evt.Unsigned.ReplacesState; replaced != "" {
				known++
				require.Equal(t, last[key].ID, replaced)
			}
			last[key] = evt
		}
		return known
	}
	require.GreaterOrEqual(t, check(snapshot.Timeline), 3)
	for _, evt := range snapshot.Timeline {
		if before := evt.Unsigned.PrevContent; before != nil {
			require.NotContains(t, string(before.VeryRaw), "1234")
		}
	}
	var brought []*event.Event
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.updates {
		brought = append(brought, u.Timeline...)
	}
	require.GreaterOrEqual(t, check(brought), 4)
}

// Close ends what is being read.
func TestCloseEndsSnapshots(t *testing.T) {
	account := rig.Register(t)
	room := account.NewRoom(t)
	c := connect(t, account)
	reached := make(chan struct{}, 1)
	c.Front.Inject(homeserver.Fault{Match: inRoom("context"), Do: homeserver.PauseBefore(reached, nil)})
	failed := make(chan error, 2)
	go func() { _, err := c.Snapshot(context.Background(), room); failed <- err }()
	<-reached
	go func() { _, err := c.Snapshot(context.Background(), room); failed <- err }()
	rig.Within(t, 5*time.Second, "Close", c.Close)
	for range 2 {
		require.ErrorIs(t, <-failed, session.ErrClosed)
	}
	_, err := c.Snapshot(t.Context(), room)
	require.ErrorIs(t, err, session.ErrClosed)
}
