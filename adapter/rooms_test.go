package adapter_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/rig"
)

// remembering are handlers that know nothing of rooms.
func remembering(b *bot) {
	b.Respond(`remember (\S+) is (\S+) #(\S+)`, b.memory.InEventRoom(func(msg joe.Message) error {
		if err := b.Store.Set(msg.Matches[0], msg.Matches[1]); err != nil {
			return msg.RespondE("%v #%s", err, msg.Matches[2])
		}
		return msg.RespondE("OK #%s", msg.Matches[2])
	}))
	b.Respond(`what is (\S+) #(\S+)`, b.memory.InEventRoom(func(msg joe.Message) error {
		var value string
		if _, err := b.Store.Get(msg.Matches[0], &value); err != nil {
			return msg.RespondE("%v #%s", err, msg.Matches[1])
		}
		return msg.RespondE("%s #%s", value, msg.Matches[1])
	}))
}

// A dialogue is what people say in rooms, what must be answered, and what may be.
type dialogue struct {
	mu    sync.Mutex
	next  int
	want  map[id.RoomID][]string
	maybe map[id.RoomID][]string
}

// ask says something with a number of its own, which its answer carries.
func (d *dialogue) ask(ctx context.Context, who person, room id.RoomID, text, answer string) error {
	d.mu.Lock()
	d.next++
	number := fmt.Sprint(d.next)
	d.want[room] = append(d.want[room], answer+" #"+number)
	d.mu.Unlock()
	_, err := who.SendText(ctx, room, text+" #"+number)
	return err
}

// talk has people talk in all rooms at once, and waits for the answers.
func (d *dialogue) talk(t *testing.T, bot id.UserID, people []person, rooms []id.RoomID, round int) {
	t.Helper()
	d.say(t, people, rooms, round)
	d.answered(t, bot, people[0], rooms)
}

// say has people talk in all rooms at once.
func (d *dialogue) say(t *testing.T, people []person, rooms []id.RoomID, round int) {
	var talking sync.WaitGroup
	for _, who := range people {
		for i, room := range rooms {
			talking.Go(func() {
				key := who.UserID.Localpart() // the same in all rooms
				value := fmt.Sprintf("%s-%d-%d", key, i, round)
				for _, err := range []error{
					d.ask(t.Context(), who, room, fmt.Sprintf("remember %s is %s", key, value), "OK"),
					d.ask(t.Context(), who, room, "what is "+key, value),
				} {
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	talking.Wait()
}

// interrupt has people talk, kills the bot as soon as it answers, and lets it be
// that it answers no more of what was said.
func (d *dialogue) interrupt(t *testing.T, bot id.UserID, people []person, rooms []id.RoomID, round int, kill func()) {
	t.Helper()
	before := d.want
	d.want = make(map[id.RoomID][]string)
	var talking sync.WaitGroup
	talking.Go(func() {
		for range 3 {
			d.say(t, people, rooms, round)
		}
	})
	people[0].answers(t, rooms[0], bot, len(before[rooms[0]])+1)
	kill()
	talking.Wait()
	d.want, d.maybe = before, d.want
}

// answered waits until all is answered, and checks that each answer came once, in
// the right room, and that it is right.
func (d *dialogue) answered(t *testing.T, bot id.UserID, who person, rooms []id.RoomID) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, room := range rooms {
		var more []string // than what must be answered
		eventually(t, func() bool {
			more = bodies(who.messages(t, room, bot))
			for _, want := range d.want[room] {
				i := slices.Index(more, want)
				if i < 0 {
					return false
				}
				more = slices.Delete(more, i, i+1)
			}
			return true
		}, "not all was answered in %s", room)
		for _, answer := range more {
			require.Contains(t, d.maybe[room], answer, "in %s", room)
		}
		slices.Sort(more)
		require.Len(t, slices.Compact(more), len(more), "an answer was given twice in %s", room)
	}
}

// Two people talk in three rooms with a bot that remembers, over restarts of the
// bot and of the homeserver.
func TestEveryRoomRemembersItsOwn(t *testing.T) {
	server := rig.Own(t)
	people := []person{personOf(server.Login(t, "alice")), personOf(server.Login(t, "bob"))}
	robot := personOf(server.Login(t, "robot"))
	home := robot.newRoom(t)
	rooms := []id.RoomID{
		people[0].newRoom(t, people[1], robot),
		people[0].newRoom(t, people[1], robot),
		people[1].newRoom(t, people[0], robot),
	}
	settings := setup{user: robot, home: home, handlers: remembering, config: patient}
	d := &dialogue{want: make(map[id.RoomID][]string)}

	b := start(t, settings)
	d.talk(t, robot.UserID, people, rooms, 1)

	// The homeserver dies and comes back. Meanwhile the bot and a person try to
	// say something. (It dies while nobody waits for an answer of its: it forgets
	// transaction IDs when it dies, so then nobody could tell whether it was said.)
	require.NoError(t, server.Kill())
	var talking sync.WaitGroup
	talking.Go(func() {
		if err := b.Adapter.Send("I am still here", home.String()); err != nil {
			t.Error(err)
		}
	})
	talking.Go(func() {
		key := people[0].UserID.Localpart()
		if err := d.ask(t.Context(), people[0], rooms[0], "what is "+key, key+"-0-1"); err != nil {
			t.Error(err)
		}
	})
	require.NoError(t, server.Restart(t.Context()))
	talking.Wait()
	d.answered(t, robot.UserID, people[0], rooms)
	require.Equal(t, []string{"I am still here"}, bodies(robot.answers(t, home, robot.UserID, 1)))
	d.talk(t, robot.UserID, people, rooms, 2)
	require.NotContains(t, b.log.String(), "-0-2", "the log has what was said")

	// The bot restarts politely. What is said meanwhile is not answered; what it was told
	// before is remembered.
	b.stop()
	people[0].sayUnheard(t, rooms[0], "what is alice #unheard")
	b = start(t, settings)
	for i, room := range rooms {
		require.NoError(t, d.ask(t.Context(), people[1], room, "what is alice", fmt.Sprintf("alice-%d-2", i)))
	}
	d.answered(t, robot.UserID, people[0], rooms)
	d.talk(t, robot.UserID, people, rooms, 3)
	b.stop()

	// The bot is killed, while nobody talks and while all do.
	v := victim{server.URL(), robot.AccessToken, home.String()}
	kill := v.start(t)
	d.talk(t, robot.UserID, people, rooms, 4)
	kill()
	people[0].sayUnheard(t, rooms[0], "what is alice #unheard")
	kill = v.start(t)
	for i, room := range rooms {
		require.NoError(t, d.ask(t.Context(), people[1], room, "what is alice", fmt.Sprintf("alice-%d-4", i)))
	}
	d.answered(t, robot.UserID, people[0], rooms)
	d.interrupt(t, robot.UserID, people, rooms, 5, kill)
	kill = v.start(t)
	for i, room := range rooms { // whether it came to remember this or not
		require.NoError(t, d.ask(t.Context(), people[0], room, "remember alice is "+fmt.Sprintf("alice-%d-6", i), "OK"))
		require.NoError(t, d.ask(t.Context(), people[0], room, "what is alice", fmt.Sprintf("alice-%d-6", i)))
	}
	d.answered(t, robot.UserID, people[0], rooms)
	d.talk(t, robot.UserID, people, rooms, 7)
	kill()

	for i, room := range rooms {
		require.JSONEq(t, strings.ReplaceAll(`{"alice": "alice-N-7", "bob": "bob-N-7"}`, "N", fmt.Sprint(i)), people[0].Standing(t, room)[""])
	}
	require.Empty(t, robot.Standing(t, home), "the default room remembers what was said elsewhere")
}
