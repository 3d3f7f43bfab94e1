package replica

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// A world is a simulated homeserver, a replica that follows it, and what other
// writers do. Its state events are a log; sync is a cursor in it.
type world struct {
	layout wire.Layout
	room   *Room

	log    []Event
	latest map[string]int            // by state key, the place in the log
	known  map[string]map[string]int // by state key and event ID, the place in the log
	cursor int                       // how far sync has come
	serial int                       // of the next value
	clock  int64                     // when the next event is sent
	// uncertain says that the replica could not see who changed what: sync passed
	// events over, or another writer gave a key a former value, not long after an own
	// change of it or because it had not heard of the present one.
	uncertain bool
	// shared says that the homeserver answered an own write with another writer's
	// event, which has the same content.
	shared bool

	// want is what should stand in the room in the end: the last change of every
	// key that anybody meant.
	want   map[string]string
	wanted []map[string]string // want as it was when the log had that many events
	mine   map[string]int      // the place in the log where an own write last changed a key

	write *pendingWrite
	read  *pendingRead
	floor map[string]int // by state key, the latest place that reads have shown or that was acknowledged
}

type pendingWrite struct {
	stateKey string
	content  wire.Dictionary
	changed  []string
	stored   string // the event's ID, once it is stored
}

type pendingRead struct {
	event Event
	found bool
}

func newWorld(layout wire.Layout) *world {
	return &world{
		layout: layout,
		room:   New(layout),
		latest: make(map[string]int),
		known:  make(map[string]map[string]int),
		want:   make(map[string]string),
		wanted: []map[string]string{{}},
		mine:   make(map[string]int),
		floor:  make(map[string]int),
	}
}

// put stores a state event as a homeserver does: the same content again is the
// same event.
func (w *world) put(stateKey string, content json.RawMessage) string {
	if i, ok := w.latest[stateKey]; ok && wire.Equal(w.log[i].Content, content) {
		return w.log[i].ID
	}
	event := Event{ID: fmt.Sprintf("$%d", len(w.log)), StateKey: stateKey, Content: content, Time: w.clock}
	if w.known[stateKey] == nil {
		w.known[stateKey] = make(map[string]int)
	}
	w.known[stateKey][event.ID] = len(w.log)
	w.latest[stateKey] = len(w.log)
	w.log = append(w.log, event)
	w.wanted = append(w.wanted, maps.Clone(w.want))
	return event.ID
}

// state returns the room's state as it was when the log had n events.
func (w *world) state(n int) map[string]Event {
	state := make(map[string]Event)
	for _, event := range w.log[:n] {
		state[event.StateKey] = event
	}
	return state
}

func (w *world) dictionary(event Event) wire.Dictionary {
	if event.ID == "" {
		return wire.Dictionary{}
	}
	dict, err := w.layout.Decode(event.StateKey, event.Content)
	if err != nil {
		panic(err)
	}
	return dict
}

// means notes that somebody changed keys on purpose.
func (w *world) means(dict wire.Dictionary, keys []string) {
	for _, key := range keys {
		if entry, ok := dict.Entries[key]; ok {
			w.want[key] = string(entry.Raw)
		} else {
			delete(w.want, key)
		}
	}
	w.wanted[len(w.log)] = maps.Clone(w.want)
}

// isFormer says whether a writer gives an own key a value that it had before its
// present one, which was sent not long ago.
func (w *world) isFormer(stateKey, key string, after wire.Dictionary) bool {
	at, ok := w.mine[key]
	if !ok || at < w.cursor && w.clock-w.log[at].Time >= maxLag {
		return false
	}
	raw := after.Entries[key].Raw
	return raw == nil || slices.ContainsFunc(w.log, func(event Event) bool {
		return event.StateKey == stateKey && same(w.dictionary(event).Entries[key].Raw, raw)
	})
}

func (w *world) change(t *rapid.T) (key string, raw json.RawMessage) {
	key = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
	if rapid.IntRange(0, 3).Draw(t, "delete") > 0 {
		w.serial++
		raw = json.RawMessage(fmt.Sprint(w.serial))
	}
	return key, raw
}

// foreign is a write of somebody else, whose base may be stale.
func (w *world) foreign(t *rapid.T) {
	key, raw := w.change(t)
	age := rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "age of the base")
	stateKey := w.layout.Of(key)
	base := w.dictionary(w.state(max(0, len(w.log)-age))[stateKey])
	before := w.dictionary(w.state(len(w.log))[stateKey])
	after := base.With(map[string]json.RawMessage{key: raw})
	if rapid.Bool().Draw(t, "later") {
		w.clock += maxLag
	}
	changed := differences(before, after)
	w.uncertain = w.uncertain || slices.ContainsFunc(changed, func(other string) bool { return other != key || w.isFormer(stateKey, key, after) })
	w.put(stateKey, after.Content())
	w.means(after, changed)
}

// begin starts an own write, as package commit does.
func (w *world) begin(t *rapid.T) {
	if w.write != nil || w.read != nil {
		t.Skip("something is under way")
	}
	key, raw := w.change(t)
	stateKey := w.layout.Of(key)
	if w.room.Stale(stateKey) {
		w.hold(stateKey)
		w.refresh(t)
	}
	base, err := w.room.Begin(stateKey)
	require.NoError(t, err)
	content := base.With(map[string]json.RawMessage{key: raw})
	if wire.Equal(content.Content(), base.Content()) {
		w.room.Abort(stateKey)
		return
	}
	w.write = &pendingWrite{stateKey: stateKey, content: content, changed: []string{key}}
}

func (w *world) store(t *rapid.T) {
	if w.write == nil || w.write.stored != "" {
		t.Skip("nothing to store")
	}
	before := w.dictionary(w.state(len(w.log))[w.write.stateKey])
	w.storeWrite()
	if rapid.IntRange(0, 5).Draw(t, "no answer") > 0 {
		w.means(w.write.content, w.write.changed)
		for _, key := range w.write.changed {
			w.mine[key] = w.known[w.write.stateKey][w.write.stored]
		}
		return
	}
	// Nobody can tell this event from another writer's.
	w.means(w.write.content, differences(before, w.write.content))
	w.room.Doubt(w.write.stateKey)
	w.write = nil
}

func (w *world) storeWrite() {
	n := len(w.log)
	w.write.stored = w.put(w.write.stateKey, w.write.content.Content())
	w.shared = w.shared || len(w.log) == n
}

func (w *world) answer(t *rapid.T) {
	if w.write == nil {
		t.Skip("no write is under way")
	}
	write := w.write
	w.write = nil
	switch {
	case write.stored != "":
		w.room.Commit(write.stateKey, write.stored, write.content, write.changed)
		w.floor[write.stateKey] = max(w.floor[write.stateKey], w.known[write.stateKey][write.stored])
	case rapid.Bool().Draw(t, "refused"):
		w.room.Abort(write.stateKey)
	default:
		w.room.Doubt(write.stateKey)
	}
}

// sync brings the next events; a gap leaves only the latest of each state key.
func (w *world) sync(t *rapid.T) {
	n := rapid.IntRange(0, len(w.log)-w.cursor).Draw(t, "events")
	gap := rapid.IntRange(0, 5).Draw(t, "gap") == 0
	w.deliver(n, gap)
}

func (w *world) deliver(n int, gap bool) {
	news := w.log[w.cursor : w.cursor+n]
	w.cursor += n
	last := make(map[string]string)
	for _, event := range news {
		last[event.StateKey] = event.ID
	}
	w.uncertain = w.uncertain || gap
	for _, event := range news {
		if gap && last[event.StateKey] != event.ID {
			continue
		}
		event.Gap = gap
		w.room.Apply(event)
	}
}

// look starts to read an event again, needed or not.
func (w *world) look(t *rapid.T) {
	if w.write != nil || w.read != nil {
		t.Skip("something is under way")
	}
	w.hold(w.layout.Of(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")))
}

func (w *world) hold(stateKey string) {
	w.room.Hold(stateKey)
	event, found := w.state(len(w.log))[stateKey]
	event.StateKey = stateKey
	w.read = &pendingRead{event, found}
}

func (w *world) refresh(t *rapid.T) {
	if w.read == nil {
		t.Skip("nothing was read")
	}
	require.NoError(t, w.room.Refresh(w.read.event, w.read.found))
	w.read = nil
}

// chore does one of the tasks, and reports whether there was one.
func (w *world) chore(t *rapid.T) bool {
	if w.write != nil || w.read != nil {
		t.Skip("something is under way")
	}
	tasks := w.room.Todo()
	if len(tasks) == 0 {
		return false
	}
	task := tasks[0]
	if task.Read {
		w.hold(task.StateKey)
		w.refresh(t)
		return true
	}
	base, changes, ok, err := w.room.Amend(task.StateKey)
	require.NoError(t, err)
	require.True(t, ok)
	// Also where sync has passed events over, nothing comes back that was changed since.
	for key, raw := range changes {
		if w.shared {
			break
		}
		require.Equal(t, w.wanted[w.cursor][key], string(raw), "what is put back under %q is what somebody meant last, as far as sync has come: %s", key, w.log)
	}
	w.write = &pendingWrite{stateKey: task.StateKey, content: base.With(changes)}
	w.storeWrite()
	w.answer(t)
	return true
}

// check says that nothing was ever taken back.
func (w *world) check(t *rapid.T) {
	for stateKey, doc := range w.room.docs {
		if doc.id == "" {
			continue
		}
		at, ok := w.known[stateKey][doc.id]
		require.True(t, ok, "event %s of nowhere", doc.id)
		require.GreaterOrEqual(t, at, w.floor[stateKey], "state key %q: event %s is older than what was there before", stateKey, doc.id)
		w.floor[stateKey] = at
	}
}

func (w *world) entries(state map[string]Event) map[string]string {
	entries := make(map[string]string)
	for _, event := range state {
		for key, entry := range w.dictionary(event).Entries {
			entries[key] = string(entry.Raw)
		}
	}
	return entries
}

// settle lets everything end, and checks that all agree.
func (w *world) settle(t *rapid.T) {
	if w.write != nil {
		w.answer(t)
	}
	if w.read != nil {
		w.refresh(t)
	}
	for rounds := 0; ; rounds++ {
		require.Less(t, rounds, 100, "there is always something left to do: %+v", w.room.Todo())
		w.deliver(len(w.log)-w.cursor, false)
		if !w.chore(t) {
			break
		}
		w.check(t)
	}
	got := make(map[string]string)
	keys, err := w.room.Keys()
	require.NoError(t, err)
	for _, key := range keys {
		entry, ok, err := w.room.Get(key)
		require.NoError(t, err)
		require.True(t, ok)
		got[key] = string(entry.Raw)
	}
	require.Equal(t, w.entries(w.state(len(w.log))), got, "the replica is what stands in the room")
	if !w.uncertain && !w.shared {
		require.Equal(t, w.want, got, "every key is as it was last changed by anybody")
	}
}

// load loads the room, by sync or by a read that sync overtakes or is behind.
func (w *world) load(t *rapid.T) {
	var older []Event
	for range rapid.IntRange(0, 3).Draw(t, "events before") {
		w.foreign(t)
	}
	seen := rapid.IntRange(0, len(w.log)).Draw(t, "sync is at")
	w.cursor = seen
	values := func(state map[string]Event) (events []Event) {
		for event := range maps.Values(state) {
			events = append(events, event)
		}
		return events
	}
	if rapid.Bool().Draw(t, "by sync") {
		state := values(w.state(seen))
		w.room.Expect()
		w.room.Restore(state, older)
		for _, event := range state {
			w.room.Apply(event)
		}
		return
	}
	w.room.Expect()
	w.sync(t)
	state := values(w.state(len(w.log)))
	w.foreign(t)
	w.sync(t)
	w.room.Restore(state, older)
}

func TestFollowsAnyHistory(t *testing.T) {
	for name, layout := range map[string]wire.Layout{
		"one dictionary":        {},
		"an event for each key": {PerKey: true},
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				w := newWorld(layout)
				w.load(t)
				w.check(t)
				t.Repeat(map[string]func(*rapid.T){
					"another writer":   w.foreign,
					"an own write":     w.begin,
					"it is stored":     w.store,
					"its answer":       w.answer,
					"sync":             w.sync,
					"read again":       w.look,
					"its answer comes": w.refresh,
					"a task":           func(t *rapid.T) { w.chore(t) },
					"":                 w.check,
				})
				w.settle(t)
			})
		})
	}
}
