package test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"
	"pgregory.net/rapid"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// TestProperty drives random operations over two rooms and their handles, in
// every layout, against the real server and a plain map. A second writer, a plain
// client, changes the state in between, the memory is closed and opened again,
// and the network fails in many ways. Every acknowledged write is there, no
// refused write is visible, and in the end the memory, a fresh one and the room
// on the server agree. With a journal no write fails, and what is acknowledged is
// delivered at some time before that.
//
// Each check takes a second or more; -rapid.checks asks for more of them.
func TestProperty(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		require.NoError(t, checks.Value.Set("4"))
		t.Cleanup(func() { require.NoError(t, checks.Value.Set(checks.DefValue)) })
	}
	for name, layout := range rig.Layouts {
		for _, journal := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, journal %t", name, journal), func(t *testing.T) {
				t.Parallel()
				property(t, layout, journal)
			})
		}
	}
}

func property(t *testing.T, layout matrix.StateKey, journal bool) {
	bot := rig.Register(t)
	front := rig.Proxy(t)
	rapid.Check(t, func(rt *rapid.T) {
		r := &sequence{T: rt, t: t, bot: bot, front: front, models: make(map[id.RoomID]rig.Model)}
		for range 2 {
			room := bot.NewRoom(t)
			r.rooms = append(r.rooms, room)
			r.models[room] = make(rig.Model)
		}
		r.conf = bot.Config(r.rooms[0])
		r.conf.Homeserver = front.URL()
		r.conf.SingleStateKey = layout
		if journal {
			r.conf.Journal = rig.Journal(t)
		}
		r.play()
	})
}

// A sequence is one random sequence of operations.
type sequence struct {
	*rapid.T
	t      *testing.T
	bot    rig.Account
	front  *homeserver.Proxy
	conf   matrix.Config
	memory *matrix.Memory
	rooms  []id.RoomID
	models map[id.RoomID]rig.Model
	n      int // makes values differ
}

func (r *sequence) play() {
	r.open()
	defer func() { require.NoError(r, r.memory.Close()) }()
	for range rapid.IntRange(5, 15).Draw(r.T, "steps") {
		room := rapid.SampledFrom(r.rooms).Draw(r.T, "room")
		switch rapid.SampledFrom([]string{"set", "set", "set", "delete", "other", "reopen"}).Draw(r.T, "step") {
		case "set":
			value := r.value()
			r.write(room, value, func(key string) error { return r.memory.InRoom(room.String()).Set(key, json.RawMessage(value)) })
		case "delete":
			r.write(room, rig.Absent, func(key string) error {
				was, err := r.memory.InRoom(room.String()).Delete(key)
				if may := r.models[room][key]; err == nil && len(may) == 1 && was != (may[0] != rig.Absent) {
					r.Fatalf("Delete says %t, and the model has %q", was, may)
				}
				return err
			})
		case "other":
			r.other(room)
		case "reopen":
			require.NoError(r, r.memory.Close())
			r.open()
		}
		r.check(room)
	}
	for range 2 { // the memory as it is, and a fresh one
		r.deliver()
		for _, room := range r.rooms {
			r.agree(room)
		}
		require.NoError(r, r.memory.Close())
		r.open()
	}
}

func (r *sequence) open() {
	r.memory = matrix.New(r.conf, matrix.WithLogger(rig.Log(r.t)))
	require.NoError(r, r.memory.Open(r.t.Context()))
	if r.journal() {
		require.FileExists(r, r.conf.Journal)
	}
}

func (r *sequence) journal() bool { return r.conf.Journal != "" }

// deliver waits until what was acknowledged is in the rooms.
func (r *sequence) deliver() {
	if !r.journal() {
		return
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), rig.Delivering)
	defer cancel()
	require.NoError(r, r.memory.Flush(ctx))
	require.Equal(r, matrix.Pending{}, r.memory.Pending())
}

var someKeys = []string{"a", "b", "@c", `"d"`}

// value draws JSON that stands natively or wrapped.
func (r *sequence) value() string {
	r.n++
	return fmt.Sprintf(rapid.SampledFrom([]string{`%d`, `"v%d"`, `{"n":%d}`, `%d.5`}).Draw(r.T, "value"), r.n)
}

// faults are what may happen to a write, attempt by attempt.
var faults = map[string][]homeserver.Action{
	"none":          nil,
	"429":           {homeserver.RateLimitBody(10), homeserver.RateLimitBody(10)},
	"503":           {homeserver.Status(503, nil, "")},
	"reset before":  {homeserver.ResetBefore()},
	"reset after":   {homeserver.ResetAfter()},
	"500 after":     {homeserver.StatusAfter(500)},
	"nonsense":      {homeserver.Corrupt("nonsense")},
	"refused":       {rig.Forbidden},
	"lost":          {homeserver.ResetBefore(), rig.Forbidden},
	"stored unseen": {homeserver.ResetAfter(), rig.Forbidden},
}

// refusals are the faults after which a write fails.
var refusals = map[string]bool{"refused": true, "lost": true, "stored unseen": true}

// write makes one write of a key, perhaps with a fault, and notes in the model
// what may stand there now.
func (r *sequence) write(room id.RoomID, value string, write func(key string) error) {
	key := rapid.SampledFrom(someKeys).Draw(r.T, "key")
	names := append(slices.Sorted(maps.Keys(faults)), "none", "none", "none", "none", "none", "none")
	if r.journal() { // what is refused then has tests of its own
		names = slices.DeleteFunc(names, func(name string) bool { return refusals[name] })
	}
	fault := rapid.SampledFrom(names).Draw(r.T, "fault")
	for _, action := range faults[fault] {
		remove := r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: action})
		if !r.journal() { // else it strikes what is delivered later
			defer remove()
		}
	}
	err := write(key)

	model := r.models[room]
	switch {
	case err == nil:
		model[key] = []string{value}
	case fault == "refused":
		require.ErrorIs(r, err, matrix.ErrForbidden)
	case fault == "lost" || fault == "stored unseen":
		require.ErrorIs(r, err, matrix.ErrUnknownOutcome)
		if _, written := model[key]; !written {
			model[key] = []string{rig.Absent}
		}
		model[key] = append(model[key], value)
	default:
		r.Fatalf("writing %q in %s with the fault %q: %v", key, room, fault, err)
	}
}

// other lets a second writer change a key, on top of what stands in the room, and
// waits until the memory has seen it.
func (r *sequence) other(room id.RoomID) {
	r.deliver() // what is pending wins over what the memory has not heard of
	r.n++
	key, value := rapid.SampledFrom([]string{"a", "b"}).Draw(r.T, "key"), fmt.Sprintf(`"theirs %d"`, r.n)
	stateKey, content := key, make(map[string]json.RawMessage)
	if r.conf.SingleStateKey != matrix.PerKey {
		stateKey = string(r.conf.SingleStateKey)
		if state, ok := r.bot.Standing(r.t, room)[stateKey]; ok {
			require.NoError(r, json.Unmarshal([]byte(state), &content))
		}
	}
	content[key] = json.RawMessage(value)
	_, err := r.bot.SendStateEvent(r.t.Context(), room, rig.MemoryType, stateKey, content)
	require.NoError(r, err)
	r.models[room][key] = []string{value}
	eventually(r.t, func() bool { return r.remembered(room)[key] == value }, "the memory sees %s under %q", value, key)
}

// check compares what the memory says of a room with the model.
func (r *sequence) check(room id.RoomID) {
	remembered := r.remembered(room)
	for key := range remembered {
		require.Contains(r, someKeys, key)
	}
	for _, key := range someKeys {
		if !r.models[room].Allows(key, remembered[key]) {
			r.Fatalf("%q in %s is %q, and the model has %q", key, room, remembered[key], r.models[room][key])
		}
	}
}

// agree waits until the memory and the room on the server say the same, and
// compares that with the model.
func (r *sequence) agree(room id.RoomID) {
	eventually(r.t, func() bool { return maps.Equal(r.remembered(room), r.onServer(room)) },
		"memory and server agree on %s", room)
	r.check(room)
}

// remembered returns what the memory says, by key.
func (r *sequence) remembered(room id.RoomID) map[string]string {
	handle := r.memory.InRoom(room.String())
	keys, err := handle.Keys()
	require.NoError(r, err)
	all := make(map[string]string)
	for _, key := range keys {
		var value json.RawMessage
		if ok, err := handle.Get(key, &value); ok || err != nil { // sync may have taken it away since
			require.NoError(r, err)
			all[key] = string(value)
		}
	}
	return all
}

// onServer returns what the room's state says, by key. It shares no code with
// the memory.
func (r *sequence) onServer(room id.RoomID) map[string]string {
	all := make(map[string]string)
	for _, content := range r.bot.Standing(r.t, room) {
		var members map[string]json.RawMessage
		require.NoError(r, json.Unmarshal([]byte(content), &members))
		for name, value := range members {
			if name == "dev.joe.key:ImQi" {
				name = `"d"`
			}
			var wrapped map[string]string
			if json.Unmarshal(value, &wrapped) == nil && wrapped["dev.joe.json"] != "" {
				value = json.RawMessage(wrapped["dev.joe.json"])
			}
			all[name] = string(value)
		}
	}
	return all
}
