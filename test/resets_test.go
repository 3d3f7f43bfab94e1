package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A reset is a room's state that goes back to what it held before, and no event says why, as
// homeservers' state resolution is known to do at times. Here somebody sends an event with the
// earlier content, so that it stands there, and the proxy shows the memory the earlier event in its
// place, or none, and of the one that was sent nothing else.
type reset struct {
	by       rig.Account // who sends it
	room     id.RoomID
	stateKey string
	after    bool        // sync tells what stands after its timeline (MSC4222)
	away     atomic.Bool // sync is left to other faults

	mu     sync.Mutex // owns what follows
	to     any        // the earlier event as /state gives it; nil: nothing stands there
	hidden string     // the ID of the event that is not shown; "": there is none
	shows  bool       // sync is still to tell
}

// play makes a proxy show resets of a state event.
func play(front *homeserver.Proxy, by rig.Account, room id.RoomID, stateKey string) *reset {
	r := &reset{by: by, room: room, stateKey: stateKey}
	front.Inject(homeserver.Fault{Do: r.answer, Match: func(q *http.Request) bool {
		return q.Method == http.MethodGet && !(r.away.Load() && rig.FollowUp(q))
	}})
	return r
}

// back has the state go back to an event, or to none.
func (r *reset) back(t testing.TB, eventID id.EventID) {
	t.Helper()
	var to map[string]any
	if eventID != "" {
		evt, err := r.by.GetEvent(t.Context(), r.room, eventID)
		require.NoError(t, err)
		text, err := json.Marshal(map[string]any{"type": evt.Type.Type, "state_key": r.stateKey, "sender": evt.Sender, "event_id": eventID,
			"room_id": r.room, "origin_server_ts": evt.Timestamp, "content": json.RawMessage(evt.Content.VeryRaw)})
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &to))
	}
	r.mu.Lock()
	defer r.mu.Unlock() // before all is known nothing is shown
	r.to, r.shows = nil, r.after
	content := any(map[string]any{})
	if to != nil {
		r.to, content = to, to["content"]
	}
	sent, err := r.by.SendStateEvent(t.Context(), r.room, rig.MemoryType, r.stateKey, content)
	require.NoError(t, err)
	r.hidden = sent.EventID.String()
}

// answer shows what the server answers, but for the event that is hidden.
func (r *reset) answer(w http.ResponseWriter, q *http.Request, server http.Handler) {
	recorder := httptest.NewRecorder()
	server.ServeHTTP(recorder, q)
	body := recorder.Body.Bytes()
	r.mu.Lock()
	defer r.mu.Unlock()
	var all any
	numbers := json.NewDecoder(bytes.NewReader(body))
	numbers.UseNumber()
	if r.hidden != "" && recorder.Code == http.StatusOK && numbers.Decode(&all) == nil {
		one := strings.Contains(q.URL.Path, "/state/"+rig.MemoryType.Type) && strings.HasSuffix(q.URL.Path, "/"+r.stateKey)
		if content, empty := all.(map[string]any); one && empty && len(content) == 0 && r.to == nil {
			homeserver.Status(http.StatusNotFound, nil, `{"errcode":"M_NOT_FOUND","error":"Event not found"}`)(w, q, server)
			return
		}
		all = r.shown(all, strings.HasSuffix(q.URL.Path, "/state"))
		if homeserver.Sync(q) {
			r.tell(all)
		}
		body, _ = json.Marshal(all)
	}
	header := recorder.Header().Clone()
	header.Del("Content-Length")
	maps.Copy(w.Header(), header)
	w.WriteHeader(recorder.Code)
	_, _ = w.Write(body)
}

// shown returns what is shown of a part of an answer. state says that it is of the room's state, and
// not of its events.
func (r *reset) shown(part any, state bool) any {
	switch part := part.(type) {
	case []any:
		kept := []any{}
		for _, one := range part {
			evt, _ := one.(map[string]any)
			switch {
			case evt == nil || evt["event_id"] != r.hidden:
				kept = append(kept, r.shown(one, state))
			case state && r.to != nil:
				kept = append(kept, r.to)
			}
		}
		return kept
	case map[string]any:
		if part["event_id"] == r.hidden && r.to != nil {
			return r.to
		}
		if unsigned, ok := part["unsigned"].(map[string]any); ok && unsigned["replaces_state"] == r.hidden {
			delete(unsigned, "replaces_state")
			delete(unsigned, "prev_content")
			delete(unsigned, "prev_sender")
			if r.to != nil {
				to := r.to.(map[string]any)
				unsigned["replaces_state"], unsigned["prev_content"], unsigned["prev_sender"] = to["event_id"], to["content"], to["sender"]
			}
		}
		for name, member := range part {
			part[name] = r.shown(member, state || name == "state")
		}
	}
	return part
}

// tell has sync tell what stands after the timeline, once.
func (r *reset) tell(answer any) {
	rooms, _ := answer.(map[string]any)["rooms"].(map[string]any)
	joined, _ := rooms["join"].(map[string]any)
	if room, ok := joined[r.room.String()].(map[string]any); ok && r.shows && r.to != nil {
		room["org.matrix.msc4222.state_after"] = map[string]any{"events": []any{r.to}}
		r.shows = false
	}
}

// A haunted room is one whose state goes back. A memory is in it behind a proxy.
type haunted struct {
	rig.Proxied // whose account is the room's owner
	*reset
	bot    rig.Account
	conf   matrix.Config
	kept   *rig.Buffer
	before id.EventID // of the state event that holds tea, when that was "old"
	want   map[string]string
}

func newHaunted(t *testing.T, layout matrix.StateKey, journal bool) *haunted {
	t.Helper()
	owner, bot, front := rig.Register(t), rig.Register(t), rig.Proxy(t)
	h := &haunted{bot: bot, want: map[string]string{"milk": `"no"`, "tea": `"new"`}}
	room := owner.NewRoom(t, bot, rig.Writable)
	h.conf = bot.Config(room)
	h.conf.Homeserver, h.conf.SingleStateKey = front.URL(), layout
	if journal {
		h.conf.Journal = rig.Journal(t)
	}
	stateKey := map[matrix.StateKey]string{matrix.OneStateKey: "", matrix.PerKey: "tea"}[layout]
	if layout == "my.key" {
		stateKey = "my.key"
	}
	h.reset = play(front, owner, room, stateKey)
	h.Proxied = rig.Proxied{Account: owner, Front: front, Room: room, Timeout: h.conf.Timeout}
	h.open(t)
	h.set(t, "milk", `"no"`)
	h.set(t, "tea", `"old"`)
	h.before = h.standing(t)
	h.set(t, "tea", `"new"`)
	h.InStep(t)
	return h
}

func (h *haunted) open(t *testing.T) {
	t.Helper()
	log, kept := rig.KeepLog()
	h.kept = kept
	h.Memory = rig.Open(t, h.conf, matrix.WithLogger(log))
}

func (h *haunted) set(t *testing.T, key, value string) {
	t.Helper()
	require.NoError(t, h.Memory.Set(key, []byte(value)))
	h.flush(t)
}

func (h *haunted) flush(t *testing.T) {
	t.Helper()
	if h.conf.Journal != "" {
		rig.Flush(t, h.Memory, rig.Delivering)
	}
}

// LoseSync is that of a rig.Proxied.
func (h *haunted) LoseSync(t testing.TB) (restore func()) {
	t.Helper()
	h.News(t, 100) // else the news that end the sync under way may be the same as the last ones
	h.away.Store(true)
	found := h.Proxied.LoseSync(t)
	return func() { h.away.Store(false); found() }
}

// gap lets so much happen while sync is away that it leaves some of it out.
func (h *haunted) gap(t *testing.T, during func()) {
	t.Helper()
	restore := h.LoseSync(t)
	during()
	for n := range 25 {
		h.News(t, n)
	}
	restore()
}

// standing returns the event that really stands in the room.
func (h *haunted) standing(t *testing.T) id.EventID {
	t.Helper()
	all, err := h.Account.State(t.Context(), h.Room)
	require.NoError(t, err)
	return all[rig.MemoryType][h.stateKey].ID
}

// recovers waits until the memory has put back what it knows. Until then, and after that, reads give
// what it knew.
func (h *haunted) recovers(t *testing.T) {
	t.Helper()
	eventually(t, func() bool {
		require.Equal(t, h.want, rig.Entries(t, h.Memory))
		return h.holds(t)
	}, "it is put back")
	h.warned(t)
}

// warned checks that the log has told of one reset, and of nothing else but that sync fails.
func (h *haunted) warned(t *testing.T, words ...string) {
	t.Helper()
	warnings := slices.DeleteFunc(h.kept.Lines("level=warning"), func(line string) bool { return strings.Contains(line, "Sync fails") })
	require.Len(t, warnings, 1, "%s", strings.Join(warnings, ""))
	for _, word := range append(words, "state has gone back") {
		require.Contains(t, warnings[0], word)
	}
}

// holds says whether the room really holds what is wanted.
func (h *haunted) holds(t *testing.T) bool {
	t.Helper()
	holds := h.Account.Entries(t, h.Room)
	return len(holds) == len(h.want) && holds["tea"] == h.want["tea"] && holds["milk"] == h.want["milk"]
}

// The room's state goes back, and no event says why. The memory does not believe that, whichever
// answer tells it.
func TestStateIsReset(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.BothKinds {
		for _, to := range []string{"an earlier event", "nothing"} {
			for how, learn := range map[string]func(*testing.T, *haunted, id.EventID){
				"a gap":         func(t *testing.T, h *haunted, to id.EventID) { h.gap(t, func() { h.back(t, to) }) },
				"a failed sync": func(t *testing.T, h *haunted, to id.EventID) { h.back(t, to); h.LoseSync(t)() },
				"a gap, long ago": func(t *testing.T, h *haunted, to id.EventID) {
					for n := range 40 {
						h.set(t, "tea", fmt.Sprint(n))
					}
					h.set(t, "tea", `"new"`)
					h.InStep(t)
					h.gap(t, func() { h.back(t, to) })
				},
				"an answer":       func(t *testing.T, h *haunted, to id.EventID) { h.back(t, to); h.set(t, "tea", `"new"`) },
				"what sync tells": func(t *testing.T, h *haunted, to id.EventID) { h.after = true; h.back(t, to); h.News(t, 100) },
				"a start with a journal": func(t *testing.T, h *haunted, to id.EventID) {
					require.NoError(t, h.Memory.Close())
					h.back(t, to)
					for n := range 12 {
						h.News(t, n)
					}
					h.open(t)
				},
			} {
				switch {
				case to != "nothing":
				case how == "what sync tells":
					continue // it has no words for that
				case how == "a failed sync", how == "a gap, long ago":
					continue // as a gap
				}
				t.Run(fmt.Sprintf("%s to %s by %s", name, to, how), func(t *testing.T) {
					t.Parallel()
					h := newHaunted(t, layout, strings.Contains(how, "journal"))
					before := h.before
					if to == "nothing" {
						before = ""
					}
					learn(t, h, before)
					h.recovers(t)
					h.gap(t, func() {}) // it is read again
					h.recovers(t)

					// And it goes on.
					h.want["tea"] = `"newer"`
					h.set(t, "tea", `"newer"`)
					h.InStep(t)
					h.recovers(t)
				})
			}
		}
	}
}

// Where the bot may not write, it can't put anything back. Reads give what was known all the same, and the log says
// what the bot lacks, once. Once it may, it does.
func TestStateIsResetWhereTheBotMayNotWrite(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHaunted(t, layout, false)
			h.mayWrite(t, 50)
			h.gap(t, func() { h.back(t, h.before) })
			eventually(t, func() bool {
				require.Equal(t, h.want, rig.Entries(t, h.Memory))
				return len(h.kept.Lines("level=warning", "state has gone back")) > 0
			}, "it is noticed")
			h.gap(t, func() {})
			require.Equal(t, h.want, rig.Entries(t, h.Memory))
			h.warned(t, "can't be written again", "power level")
			h.mayWrite(t, 0)
			require.NoError(t, h.Memory.Set("milk", []byte(`"yes"`)))
			require.NoError(t, h.Memory.Set("tea", []byte(`"new"`)))
			h.want["milk"] = `"yes"`
			h.recovers(t)
		})
	}
}

// mayWrite says which power level the memory's events need.
func (h *haunted) mayWrite(t *testing.T, need int) {
	t.Helper()
	var levels event.PowerLevelsEventContent
	require.NoError(t, h.Account.StateEvent(t.Context(), h.Room, event.StatePowerLevels, "", &levels))
	levels.Events[rig.MemoryType.Type] = need
	_, err := h.Account.SendStateEvent(t.Context(), h.Room, event.StatePowerLevels, "", &levels)
	require.NoError(t, err)
	h.InStep(t)
}

// What others change on purpose is believed, whatever it goes back to: an event says so.
func TestWhatGoesBackOnPurpose(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.Layouts {
		for how, learn := range map[string]func(*testing.T, *haunted, func()){
			"sync":  func(t *testing.T, h *haunted, change func()) { change() },
			"a gap": func(t *testing.T, h *haunted, change func()) { h.gap(t, change) },
			"an answer": func(t *testing.T, h *haunted, change func()) {
				restore := h.LoseSync(t)
				change()
				_, err := h.Memory.Delete("coffee") // what is not there is asked for
				require.NoError(t, err)
				restore()
			},
		} {
			if name == "custom" && how == "a gap" {
				continue // Dendrite never says what an event under such a state key replaced
			}
			t.Run(name+" by "+how, func(t *testing.T) {
				t.Parallel()
				h := newHaunted(t, layout, false)
				others := rig.Opsdroid{Account: h.Account, Room: h.Room, Layout: layout}
				learn(t, h, func() { require.NoError(t, others.Put(t.Context(), "tea", `"old"`)) })
				h.want["tea"] = `"old"`
				h.becomes(t)
				learn(t, h, func() { require.NoError(t, others.Delete(t.Context(), "tea")) })
				delete(h.want, "tea")
				h.becomes(t)
				if layout != matrix.PerKey && how != "a gap" { // Dendrite's state does not tell a wipe from a redaction
					learn(t, h, func() { h.Put(t, h.Room, h.stateKey, map[string]any{}) })
					delete(h.want, "milk")
					h.becomes(t)
				}
				require.Empty(t, h.kept.Lines("level=warning", "gone back"))
			})
		}
	}
}

// becomes waits until the memory gives what is wanted, which the room holds, too.
func (h *haunted) becomes(t *testing.T) {
	t.Helper()
	eventually(t, func() bool { return maps.Equal(h.want, rig.Entries(t, h.Memory)) }, "it is believed")
	require.Equal(t, h.want, h.Account.Entries(t, h.Room))
}
