package adapter_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/adapter"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A flood is what a proxy adds to the syncs of a bot: messages in a room, more than the
// homeserver of the tests takes in so short a time. It has them in the room's history too.
type flood struct {
	room   id.RoomID
	sender id.UserID
	size   int // of a message
	each   int // messages in a sync
	syncs  int

	mu    sync.Mutex // owns what follows
	done  int        // syncs
	since string     // the homeserver's own token of the last sync
}

// from starts the flood, once the sync that is under way has ended.
func (f *flood) from(proxy *homeserver.Proxy) {
	proxy.Inject(homeserver.Fault{Match: rig.FollowUp, Times: f.syncs, Do: f.sync})
	proxy.Inject(homeserver.Fault{
		Match: func(r *http.Request) bool {
			return strings.HasSuffix(r.URL.Path, "/messages") && strings.HasPrefix(r.URL.Query().Get("from"), token)
		},
		Do: f.history,
	})
}

// token is what the flood's own tokens begin with, before the number of a message.
const token = "flood-"

func (f *flood) all() int { return f.each * f.syncs }

// over says whether all was handed to the bot.
func (f *flood) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done == f.syncs
}

func (f *flood) message(n int) any {
	return map[string]any{
		"event_id": fmt.Sprintf("$%s%d-%s", token, n, f.room), "type": "m.room.message", "sender": f.sender,
		"origin_server_ts": time.Now().UnixMilli(),
		"content":          map[string]any{"msgtype": "m.text", "body": fmt.Sprint(n, " ", strings.Repeat("x", f.size))},
	}
}

// sync adds messages to what the homeserver answers at once.
func (f *flood) sync(w http.ResponseWriter, r *http.Request, server http.Handler) {
	f.mu.Lock()
	defer f.mu.Unlock()
	query := r.URL.Query()
	query.Set("timeout", "0")
	if f.since != "" {
		query.Set("since", f.since)
	}
	r.URL.RawQuery = query.Encode()
	homeserver.Edit(func(answer any) {
		object := answer.(map[string]any)
		first := f.done * f.each
		var events []any
		for i := range f.each {
			events = append(events, f.message(first+i))
		}
		object["rooms"] = map[string]any{"join": map[string]any{f.room.String(): map[string]any{
			"timeline": map[string]any{"events": events, "limited": false, "prev_batch": fmt.Sprint(token, first)},
		}}}
		f.since = object["next_batch"].(string)
		if f.done++; f.done < f.syncs {
			object["next_batch"] = fmt.Sprint(token, first+f.each) // or the bot would hold itself back
		}
	})(w, r, server)
}

// history answers with the messages before a token, newest first.
func (f *flood) history(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	from, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Query().Get("from"), token))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	end := max(0, from-limit)
	chunk := []any{}
	for n := from - 1; n >= end; n-- {
		chunk = append(chunk, f.message(n))
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"start": fmt.Sprint(token, from), "end": fmt.Sprint(token, end), "chunk": chunk})
}

// number is the number of a flood's message.
func number(t testing.TB, evt joe.ReceiveMessageEvent) int {
	t.Helper()
	text, _, _ := strings.Cut(evt.Text, " ")
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// heap is what the program holds.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// However much people write while a handler takes its time, the bot holds no more than
// it fetches after a gap, and hears what was said last, once and in order.
func TestBacklog(t *testing.T) {
	noLeaks(t)
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	proxy := rig.Proxy(t)
	var heard record[joe.ReceiveMessageEvent]
	release := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(release) })
	b := start(t, setup{user: robot, homeserver: proxy.URL(), handlers: func(b *bot) {
		b.Brain.RegisterHandler(func(evt joe.ReceiveMessageEvent) {
			<-release
			heard.add(joe.ReceiveMessageEvent{ID: evt.ID, Text: evt.Text[:min(8, len(evt.Text))]})
		})
	}})
	t.Cleanup(b.stop)
	t.Cleanup(goOn)
	before := heap()
	f := &flood{room: room, sender: alice.UserID, size: 2000, each: 125, syncs: 40}
	f.from(proxy)
	began := time.Now()
	alice.say(t, room, "-1 ends the sync that is under way")
	rig.Eventually(time.Minute)(t, f.over, "the flood does not come")
	asked := len(proxy.Requests())
	alice.say(t, room, "5000 is the last")
	eventually(t, func() bool { return len(proxy.Requests()) > asked }, "the bot does not sync any more")
	proxy.Reset()
	held := heap() - before
	t.Logf("%d messages, of %d MB, in %s; the bot holds %d MB of them", f.all(), f.all()*f.size>>20, time.Since(began).Round(time.Millisecond), held>>20)
	require.Less(t, held, uint64(f.all()*f.size/2))

	goOn()
	eventually(t, func() bool {
		all := heard.list()
		return len(all) > 0 && strings.HasPrefix(all[len(all)-1].Text, "5000")
	}, "what was said last was not heard")
	b.stop()
	all := heard.list()
	require.Greater(t, len(all), 500)
	require.Less(t, len(all), 1500)
	for i, evt := range all[1:] {
		require.Greater(t, number(t, evt), number(t, all[i]))
	}
	last := all[len(all)-501:]
	require.Equal(t, 4500, number(t, last[0]), "the last come without a gap")
	require.Contains(t, b.log.String(), "skipped")
}

// A bot that is told to stop amid many messages, with a handler that takes its time,
// stops when the handler has returned, and does not go on to the others.
func TestStopAmidFlood(t *testing.T) {
	noLeaks(t)
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	proxy := rig.Proxy(t)
	var heard record[joe.ReceiveMessageEvent]
	b := start(t, setup{user: robot, homeserver: proxy.URL(), handlers: func(b *bot) {
		b.Brain.RegisterHandler(func(evt joe.ReceiveMessageEvent) {
			heard.add(evt)
			<-time.After(500 * time.Millisecond)
		})
	}})
	f := &flood{room: room, sender: alice.UserID, each: 40, syncs: 3}
	f.from(proxy)
	alice.say(t, room, "ends the sync that is under way")
	eventually(t, f.over, "the flood does not come")
	heard.wait(t, 2)
	rig.Within(t, 5*time.Second, "stopping", b.stop)
	require.Less(t, len(heard.list()), 10)
}

// That the bot was removed is heard, however much was said before and after.
func TestRemovedAmidFlood(t *testing.T) {
	t.Cleanup(adapter.Waiting(4))
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot)
	var heard record[string]
	release := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(release) })
	b := start(t, setup{user: robot, handlers: func(b *bot) {
		b.Brain.RegisterHandler(func(evt joe.ReceiveMessageEvent) {
			<-release
			heard.add(evt.Text)
		})
		b.Brain.RegisterHandler(func(adapter.LeaveEvent) { heard.add("removed") })
		b.Brain.RegisterHandler(func(adapter.InvitationEvent) { heard.add("invited") })
	}})
	t.Cleanup(b.stop)
	t.Cleanup(goOn)
	alice.say(t, room, "first")
	for i := range 10 {
		alice.say(t, room, fmt.Sprint("before ", i))
	}
	_, err := alice.KickUser(t.Context(), room, &mautrix.ReqKickUser{UserID: robot.UserID})
	require.NoError(t, err)
	_, err = alice.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: robot.UserID})
	require.NoError(t, err)
	eventually(t, func() bool {
		members, err := alice.JoinedMembers(t.Context(), room)
		return err == nil && len(members.Joined) == 2
	}, "the bot has not joined")
	for i := range 10 {
		alice.say(t, room, fmt.Sprint("after ", i))
	}
	goOn()
	eventually(t, func() bool { return slices.Contains(heard.list(), "after 9") }, "what was said last was not heard")
	b.stop()
	want := []string{"removed", "invited"}
	for i := range 10 {
		want = append(want, fmt.Sprint("after ", i))
	}
	all := heard.list()
	require.Equal(t, want, all[len(all)-len(want):])
	require.Contains(t, b.log.String(), "wait for the bot")
}
