//go:build goolm

package e2ee_test

import (
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

// TestProperty is the module's property test in encrypted rooms: random operations
// over two rooms, in every layout, against the real server and a plain map. A
// second writer, a plain mautrix client, encrypts values of its own, the memory is
// closed and opened again, and the network fails, on the way of the encrypted
// events and of the state. Every acknowledged write is there, no refused write is
// visible, no value stands in the clear, and in the end the memory, a fresh one and
// what the second writer can decrypt agree.
func TestProperty(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		require.NoError(t, checks.Value.Set("3"))
		t.Cleanup(func() { require.NoError(t, checks.Value.Set(checks.DefValue)) })
	}
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			bot, other := register(t), newPeer(t, register(t))
			conf, front := proxied(t, bot.config(t, ""))
			conf.SingleStateKey = layout
			rapid.Check(t, func(rt *rapid.T) {
				r := &sequence{T: rt, t: t, bot: bot, other: other, front: front, conf: conf, models: make(map[id.RoomID]model)}
				for range 2 {
					room := bot.newRoom(t, other.account)
					raise(t, bot, room, other.UserID)
					r.rooms = append(r.rooms, room)
					r.models[room] = make(model)
				}
				r.conf.Rooms = map[string]string{"main": r.rooms[0].String()}
				r.play()
			})
		})
	}
}

// A model is what a room should remember: for each key what may stand there. More
// than one value is possible after a write whose outcome is unknown.
type model map[string][]string

// absent stands in a model for "no value".
const absent = ""

// A sequence is one random sequence of operations.
type sequence struct {
	*rapid.T
	t      *testing.T
	bot    account
	other  *peer
	front  *homeserver.Proxy
	conf   matrix.Config
	memory *matrix.Memory
	rooms  []id.RoomID
	models map[id.RoomID]model
	n      int // makes values differ
}

func (r *sequence) play() {
	r.memory = open(r.t, r.conf)
	defer func() { require.NoError(r, r.memory.Close()) }()
	for range rapid.IntRange(5, 12).Draw(r.T, "steps") {
		room := rapid.SampledFrom(r.rooms).Draw(r.T, "room")
		handle := r.memory.InRoom(room.String())
		r.n++
		switch rapid.SampledFrom([]string{"set", "set", "set", "delete", "other", "reopen"}).Draw(r.T, "step") {
		case "set":
			value := fmt.Sprintf(rapid.SampledFrom([]string{`%d`, `"v%d"`, `{"n":%d}`, `%d.5`}).Draw(r.T, "value"), r.n)
			r.write(room, value, func(key string) error { return handle.Set(key, json.RawMessage(value)) })
		case "delete":
			r.write(room, absent, func(key string) error { _, err := handle.Delete(key); return err })
		case "other":
			r.foreign(room)
		case "reopen":
			require.NoError(r, r.memory.Close())
			r.memory = open(r.t, r.conf)
		}
		r.check(room, r.remembered(room))
	}
	for range 2 { // the memory as it is, and a fresh one
		for _, room := range r.rooms {
			eventually(r.t, func() bool { return maps.Equal(r.remembered(room), r.onServer(room)) }, "memory and server agree on %s", room)
			r.check(room, r.remembered(room))
		}
		require.NoError(r, r.memory.Close())
		r.memory = open(r.t, r.conf)
	}
}

// faults are what may happen to a write, request by request.
var faults = map[string][]homeserver.Fault{
	"none":                {},
	"429":                 {{Match: homeserver.StateWrite, Do: homeserver.RateLimitBody(10)}, {Match: homeserver.EventSend, Do: homeserver.RateLimitBody(10)}},
	"event reset before":  {{Match: homeserver.EventSend, Do: homeserver.ResetBefore()}},
	"event reset after":   {{Match: homeserver.EventSend, Do: homeserver.ResetAfter()}},
	"event refused":       {{Match: homeserver.EventSend, Do: rig.Forbidden}},
	"state reset before":  {{Match: homeserver.StateWrite, Do: homeserver.ResetBefore()}},
	"state reset after":   {{Match: homeserver.StateWrite, Do: homeserver.ResetAfter()}},
	"state refused":       {{Match: homeserver.StateWrite, Do: rig.Forbidden}},
	"state stored unseen": {{Match: homeserver.StateWrite, Do: homeserver.ResetAfter()}, {Match: homeserver.StateWrite, Do: rig.Forbidden}},
}

// write makes one write of a key, perhaps with a fault, and notes in the model
// what may stand there now.
func (r *sequence) write(room id.RoomID, value string, write func(key string) error) {
	key := rapid.SampledFrom([]string{"a", "b", "@c"}).Draw(r.T, "key")
	names := append(slices.Sorted(maps.Keys(faults)), "none", "none", "none", "none")
	name := rapid.SampledFrom(names).Draw(r.T, "fault")
	for _, fault := range faults[name] {
		fault.Times = 1
		defer r.front.Inject(fault)()
	}
	err := write(key)
	model := r.models[room]
	switch {
	case err == nil:
		model[key] = []string{value}
	case name == "event refused" || name == "state refused":
		require.ErrorIs(r, err, matrix.ErrForbidden)
	case name == "state stored unseen":
		require.ErrorIs(r, err, matrix.ErrUnknownOutcome)
		if len(model[key]) == 0 {
			model[key] = []string{absent}
		}
		model[key] = append(model[key], value)
	default:
		r.Fatalf("writing %q in %s with the fault %q: %v", key, room, name, err)
	}
}

// foreign lets the second writer set a key, on top of what stands in the room, and
// waits until the memory has seen it.
func (r *sequence) foreign(room id.RoomID) {
	key, value := rapid.SampledFrom([]string{"a", "b"}).Draw(r.T, "their key"), fmt.Sprintf(`"theirs %d"`, r.n)
	stateKey, content := key, make(map[string]json.RawMessage)
	if r.conf.SingleStateKey != matrix.PerKey {
		stateKey = string(r.conf.SingleStateKey)
		for key, eventID := range r.bot.pointers(r.t, room) {
			content[key] = fmt.Appendf(nil, `{"encrypted_val":%q}`, eventID)
		}
	}
	eventID := r.other.encrypt(r.t, room, valueType, fmt.Sprintf(`{%q:%s}`, key, value))
	content[key] = fmt.Appendf(nil, `{"encrypted_val":%q}`, eventID)
	_, err := r.other.SendStateEvent(r.t.Context(), room, rig.MemoryType, stateKey, content)
	require.NoError(r, err)
	r.models[room][key] = []string{value}
	eventually(r.t, func() bool { return r.remembered(room)[key] == value }, "the memory sees %s under %q", value, key)
}

// check compares what is remembered of a room with the model.
func (r *sequence) check(room id.RoomID, remembered map[string]string) {
	for key, value := range remembered {
		require.Contains(r, r.models[room][key], value, "%q in %s", key, room)
	}
	for key, may := range r.models[room] {
		require.Contains(r, may, remembered[key], "%q in %s", key, room)
	}
}

// remembered returns what the memory says, by key: values, or errors, as the key
// of what another has encrypted may come later than its event.
func (r *sequence) remembered(room id.RoomID) map[string]string {
	handle := r.memory.InRoom(room.String())
	keys, err := handle.Keys()
	if err != nil {
		return map[string]string{"": err.Error()}
	}
	all := make(map[string]string)
	for _, key := range keys {
		var value json.RawMessage
		switch ok, err := handle.Get(key, &value); {
		case err != nil:
			all[key] = err.Error()
		case ok: // sync may have taken it away since
			all[key] = string(value)
		}
	}
	return all
}

// onServer returns what the second writer can decrypt of the room, by key. It
// shares no code with the memory.
func (r *sequence) onServer(room id.RoomID) map[string]string {
	all := make(map[string]string)
	for key, eventID := range r.bot.pointers(r.t, room) {
		evt := r.other.decrypt(r.t, room, eventID)
		var content map[string]json.RawMessage
		require.NoError(r, json.Unmarshal(evt.Content.VeryRaw, &content))
		all[key] = string(content[key])
	}
	return all
}
