package replica

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-joe/matrix-memory/internal/wire"
)

const (
	maker = "@maker:x"
	until = int64(1000)
)

// loaded returns a room that has loaded events of its timeline.
func loaded(layout wire.Layout, timeline ...Event) *Room {
	r := New(layout, account)
	r.Expect()
	r.Load(Snapshot{Timeline: timeline})
	r.Settle(true)
	return r
}

// set changes a key, and gives the event that this makes.
func set(t *testing.T, r *Room, id, key, value string) Event {
	t.Helper()
	changes := map[string]json.RawMessage{key: nil}
	if value != "" {
		changes[key] = json.RawMessage(value)
	}
	return put(t, r, id, r.StateKey(key), changes)
}

// put makes an event of what a room holds, and of some changes.
func put(t *testing.T, r *Room, id, stateKey string, changes map[string]json.RawMessage) Event {
	t.Helper()
	var before string
	if doc := r.docs[stateKey]; doc != nil {
		before = doc.id
	}
	draft, err := r.Draft(stateKey, changes, sentFirst(changes), 60_000)
	if err != nil {
		t.Fatal(err)
	}
	r.Commit(stateKey, draft, id)
	return Event{ID: id, StateKey: stateKey, Sender: account, Content: draft.Content, Time: until + 1, Replaces: before}
}

// mend does what is to be mended, and gives the events that this makes.
func mend(t *testing.T, r *Room, id string) (events []Event) {
	t.Helper()
	tasks := r.Todo()
	slices.SortFunc(tasks, func(a, b Task) int { return strings.Compare(a.StateKey, b.StateKey) })
	for _, task := range tasks {
		if !task.Mend {
			t.Fatalf("%+v is to be done", task)
		}
		events = append(events, put(t, r, id+task.StateKey, task.StateKey, nil))
	}
	if todo := r.Todo(); len(todo) > 0 {
		t.Errorf("after it was mended %+v is to be done", todo)
	}
	return events
}

// copyOf gives the event that a homeserver makes of another room's.
func copyOf(e Event, id string) Event {
	return Event{ID: id, StateKey: e.StateKey, Sender: maker, Content: e.Content, Time: until}
}

func heritage(t *testing.T, r *Room) *Heritage {
	t.Helper()
	h, err := r.Leave()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func inherit(t *testing.T, r *Room, h *Heritage, events ...Event) {
	t.Helper()
	if _, err := r.Inherit(h, maker, until, events); err != nil {
		t.Fatal(err)
	}
}

// holds fails unless reads answer this.
func holds(t *testing.T, r *Room, want map[string]string) {
	t.Helper()
	keys, err := r.Keys()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, key := range keys {
		entry, _, _ := r.Get(key)
		got[key] = string(entry.Raw)
	}
	if !maps.Equal(got, want) {
		t.Errorf("it holds %v, not %v", got, want)
	}
}

var layouts = map[string]wire.Layout{"a dictionary": {}, "elsewhere": {StateKey: "bot"}, "a key each": {PerKey: true}}

func TestInherit(t *testing.T) {
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			old := loaded(layout)
			var copies []Event
			for _, key := range []string{"a", "b", "gone"} {
				copies = append(copies, set(t, old, "$old "+key, key, `1`))
			}
			if layout.PerKey {
				for i, e := range copies {
					copies[i] = copyOf(e, "$copy "+e.StateKey)
				}
			} else {
				copies = []Event{copyOf(copies[2], "$copy")}
			}
			set(t, old, "$old b2", "b", `2`)
			set(t, old, "$old gone2", "gone", ``)
			h := heritage(t, old)
			for name, events := range map[string][]Event{"nothing is there": nil, "copies are": copies} {
				t.Run(name, func(t *testing.T) {
					r := loaded(layout, events...)
					takes, err := r.Takes(h, maker, until, events)
					if err != nil {
						t.Fatal(err)
					}
					want := []string{"a", "b"}
					if events != nil && layout.PerKey {
						want = []string{"b"}
					}
					if got := slices.Sorted(maps.Keys(takes)); events == nil && !slices.Equal(got, want) || string(takes["b"].Raw) != "2" {
						t.Errorf("it takes %v", takes)
					}
					inherit(t, r, h, events...)
					holds(t, r, map[string]string{"a": "1", "b": "2"})
					saved, err := r.Save()
					if err != nil {
						t.Fatal(err)
					}
					again := New(layout, account)
					if err := again.Restore(saved); err != nil {
						t.Fatal(err)
					}
					holds(t, again, map[string]string{"a": "1", "b": "2"})
					again.Expect()
					again.Load(Snapshot{Timeline: events})
					again.Settle(true)
					for _, r := range []*Room{r, again} {
						inherit(t, r, h, events...) // once more
						made := mend(t, r, "$new ")
						holds(t, r, map[string]string{"a": "1", "b": "2"})
						holds(t, loaded(layout, append(slices.Clone(events), made...)...), map[string]string{"a": "1", "b": "2"})
						if !layout.PerKey {
							dict, _ := layout.Decode(layout.StateKey, made[0].Content)
							if dict.Write.Base != "$old gone2" || dict.Write.Keys["a"] != h.docs[layout.StateKey].keys["a"].at {
								t.Errorf("it puts %s", made[0].Content)
							}
							if dict, _ = layout.Decode(layout.StateKey, set(t, r, "$later", "a", "5").Content); dict.Write.Base == "$old gone2" {
								t.Error("that names the old room's event once more")
							}
						}
					}
				})
			}
		})
	}
}

func TestNotLoaded(t *testing.T) {
	r := New(wire.Layout{}, account)
	if _, err := r.Leave(); err != ErrNotLoaded {
		t.Error(err)
	}
	h := heritage(t, loaded(wire.Layout{}))
	if _, err := r.Takes(h, maker, until, nil); err != ErrNotLoaded {
		t.Error(err)
	}
	if _, err := r.Inherit(h, maker, until, nil); err != ErrNotLoaded {
		t.Error(err)
	}
}

// Only what the new room's maker sent before the old room was left, first and with the same
// content, is a copy.
func TestCopies(t *testing.T) {
	for name, layout := range layouts {
		for why, test := range map[string]struct {
			change func(e *Event)
			counts bool
		}{
			"a copy":                      {func(e *Event) {}, false},
			"the account's own":           {func(e *Event) { e.Sender = account }, layout.PerKey}, // else stamps tell
			"somebody else's":             {func(e *Event) { e.Sender = "@other:x" }, true},
			"sent later":                  {func(e *Event) { e.Time++ }, !layout.PerKey}, // there it is one that a slow memory took along
			"of something else":           {func(e *Event) { e.Content = json.RawMessage(`{"a":7}`) }, true},
			"sent after something else":   {func(e *Event) { e.Replaces = "$before" }, true},
			"of what was not seen before": {func(e *Event) { e.Content = json.RawMessage(`{"a":0}`) }, false},
		} {
			t.Run(name+"/"+why, func(t *testing.T) {
				old := loaded(layout)
				set(t, old, "$old", "a", `1`)
				e := copyOf(set(t, old, "$old2", "a", `2`), "$copy")
				set(t, old, "$old3", "a", ``)
				h := heritage(t, old)
				h.Past([]Event{{ID: "$oldest", StateKey: e.StateKey, Sender: account, Content: json.RawMessage(`{"a":0}`)}})
				test.change(&e)
				r := loaded(layout, e)
				inherit(t, r, h, e)
				if _, there, _ := r.Get("a"); there != test.counts {
					t.Errorf("it is there: %v", there)
				}
			})
		}
	}
}

// A copy that is known from the event that replaced it first is told once it is read itself, also
// after a start.
func TestCopyThatWasReplaced(t *testing.T) {
	old := loaded(wire.Layout{})
	set(t, old, "$old", "a", `1`)
	copied := copyOf(set(t, old, "$old2", "b", `1`), "$copy")
	set(t, old, "$old3", "a", `2`)
	h := heritage(t, old)
	theirs := Event{ID: "$theirs", Sender: "@opsdroid:x", Time: until + 5, Replaces: "$copy", Before: copied.Content, BeforeFrom: maker,
		Content: json.RawMessage(strings.Replace(string(copied.Content), `"b":1`, `"b":7`, 1))}
	r := loaded(wire.Layout{}, theirs)
	r.Earlier([]Event{copied})
	want := map[string]string{"a": "2", "b": "7"}
	inherit(t, r, h)
	holds(t, r, want)
	saved, err := r.Save()
	if err != nil {
		t.Fatal(err)
	}
	again := New(wire.Layout{}, account)
	if err := again.Restore(saved); err != nil {
		t.Fatal(err)
	}
	holds(t, again, want)
	if len(again.docs[""].meaning.copies) != 1 {
		t.Error("it is not known for a copy any more")
	}
	for _, r := range []*Room{r, again} {
		r.Missed()
		r.Expect()
		r.Load(Snapshot{Timeline: []Event{copied, theirs}})
		r.Settle(true)
		mend(t, r, "$mended")
		holds(t, r, want)
	}
}

func TestWhatTheNewRoomHasStays(t *testing.T) {
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			old := loaded(layout)
			for _, key := range []string{"a", "b", "c"} {
				set(t, old, "$old "+key, key, `1`)
			}
			h := heritage(t, old)
			native := loaded(layout) // it has never heard of the old room
			var events []Event
			events = append(events, set(t, native, "$n1", "a", `"new"`), set(t, native, "$n2", "b", `"new"`), set(t, native, "$n3", "b", ``))
			first := loaded(layout, events...)
			inherit(t, first, h, events...)
			want := map[string]string{"a": `"new"`, "c": "1"}
			holds(t, first, want)
			events = append(events, mend(t, first, "$new ")...)
			events = append(events, set(t, first, "$gone", "c", ``))
			second := loaded(layout, events...)
			slices.Reverse(events)
			inherit(t, second, h, events...)
			delete(want, "c") // what was deleted since it was taken along stays so
			holds(t, second, want)
			mend(t, second, "$again ")
			holds(t, second, want)
		})
	}
}

// A room in the middle may have been replaced before anything was written there.
func TestChainOfUpgrades(t *testing.T) {
	for name, layout := range layouts {
		for why, write := range map[string]bool{"written to": true, "never written to": false} {
			t.Run(name+"/"+why, func(t *testing.T) {
				first := loaded(layout)
				set(t, first, "$1", "a", `1`)
				set(t, first, "$2", "b", `1`)
				second, third := loaded(layout), loaded(layout)
				inherit(t, second, heritage(t, first))
				want := map[string]string{"a": "1", "b": "1"}
				if write {
					set(t, second, "$3", "b", `2`)
					want["b"] = "2"
				}
				inherit(t, third, heritage(t, second))
				holds(t, third, want)
				made := mend(t, third, "$4")
				holds(t, third, want)
				if layout.PerKey {
					return
				}
				// The next one tells that from what somebody set in the third room.
				slow := loaded(layout, made...)
				inherit(t, slow, heritage(t, second), made...)
				if takes, err := slow.Takes(heritage(t, second), maker, until, made); err != nil || len(takes) > 0 || len(slow.Todo()) > 0 {
					t.Errorf("it takes %v along once more: %v", takes, err)
				}
			})
		}
	}
}

func TestDrop(t *testing.T) {
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			old := loaded(layout)
			copies := []Event{set(t, old, "$1", "joe.permissions.x", `["admin"]`)}
			if layout.PerKey {
				copies = append(copies, set(t, old, "$2", "a", `1`))
			} else {
				copies[0] = set(t, old, "$2", "a", `1`)
			}
			for i, e := range copies {
				copies[i] = copyOf(e, "$copy "+e.ID)
			}
			h := heritage(t, old)
			if dropped := h.Drop(func(key string) bool { return strings.HasPrefix(key, "joe.permissions.") }); !slices.Equal(dropped, []string{"joe.permissions.x"}) {
				t.Errorf("it drops %v", dropped)
			}
			r, want := loaded(layout, copies...), map[string]string{"a": "1"}
			inherit(t, r, h, copies...)
			holds(t, r, want)
			events := append(slices.Clone(copies), mend(t, r, "$new ")...)
			holds(t, loaded(layout, events...), want) // for who knows nothing of the old room, too
			holds(t, old, map[string]string{"a": "1", "joe.permissions.x": `["admin"]`})

			set(t, r, "$again", "joe.permissions.x", `["guest"]`) // here it may be set
			inherit(t, r, h, copies...)
			holds(t, r, map[string]string{"a": "1", "joe.permissions.x": `["guest"]`})
		})
	}
}

// Each memory seals anew what it takes along; what another one has taken along already stays.
func TestSealedAnew(t *testing.T) {
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			old := loaded(layout)
			copied := copyOf(set(t, old, "$old", "a", `{"encrypted_val":"$sealed"}`), "$copy")
			take := func(r *Room, sealed string, events ...Event) (taken bool) {
				h := heritage(t, old)
				takes, err := r.Takes(h, maker, until, events)
				if err != nil {
					t.Fatal(err)
				}
				if entry, ok := takes["a"]; ok {
					if entry.Pointer != "$sealed" {
						t.Errorf("it takes %v", takes)
					}
					h.Replace(map[string]json.RawMessage{"a": wire.EncodePointer(sealed), "b": wire.EncodePointer("$none")})
					taken = true
				}
				inherit(t, r, h, events...)
				return taken
			}
			want := map[string]string{"a": `{"encrypted_val":"$anew"}`}
			first, other := loaded(layout), loaded(layout)
			take(first, "$anew")
			take(other, "$more")
			holds(t, first, want)
			if first.Points("$sealed") || !first.Points("$anew") {
				t.Error("it points at what was sealed for the old room")
			}
			events := mend(t, first, "$new ")
			if second := loaded(layout, events...); take(second, "$twice", events...) {
				t.Error("it is sealed once more")
			} else {
				holds(t, second, want)
			}
			if r := loaded(layout, copied); !take(r, "$anew", copied) {
				t.Error("a copy points at what was sealed for the old room")
			} else {
				holds(t, r, want)
				mend(t, r, "$mended ")
			}
			if !layout.PerKey { // of two that have taken it along at the same moment one counts for all
				events = append(events, mend(t, other, "$also ")...)
				both := loaded(layout, events...)
				first.Apply(Update{Timeline: events[1:]})
				other.Apply(Update{Timeline: events[:1]})
				holds(t, first, map[string]string{"a": string(both.docs[layout.StateKey].dict.Entries["a"].Raw)})
				holds(t, other, map[string]string{"a": string(both.docs[layout.StateKey].dict.Entries["a"].Raw)})
			}
		})
	}
}

func TestInheritKeys(t *testing.T) {
	layout := wire.Layout{PerKey: true}
	event := func(id, sender, key, content, replaces string, at int64) Event {
		return Event{ID: id, StateKey: key, Sender: sender, Content: json.RawMessage(content), Replaces: replaces, Time: at}
	}
	for name, test := range map[string]struct {
		old  []Event
		here []Event
		want string // "": nothing
		mend bool
	}{
		"nothing is there":          {[]Event{event("$1", account, "a", `{"a":1}`, "", 1)}, nil, "1", true},
		"it was deleted":            {[]Event{event("$1", account, "a", `{"a":1}`, "", 1), event("$2", account, "a", `{}`, "$1", 2)}, nil, "", false},
		"a copy is there":           {[]Event{event("$1", account, "a", `{"a":1}`, "", 1)}, []Event{event("$n", maker, "a", `{"a":1}`, "", 3)}, "1", false},
		"changed since the copy":    {[]Event{event("$1", account, "a", `{"a":1}`, "", 1), event("$2", account, "a", `{"a":2}`, "$1", 4)}, []Event{event("$n", maker, "a", `{"a":1}`, "", 3)}, "2", true},
		"deleted since the copy":    {[]Event{event("$1", account, "a", `{"a":1}`, "", 1), event("$2", account, "a", `{}`, "$1", 4)}, []Event{event("$n", maker, "a", `{"a":1}`, "", 3)}, "", true},
		"set here":                  {[]Event{event("$1", account, "a", `{"a":1}`, "", 1)}, []Event{event("$n", "@b:x", "a", `{"a":9}`, "", 3)}, "9", false},
		"set upon the copy":         {[]Event{event("$1", account, "a", `{"a":1}`, "", 1)}, []Event{event("$n", maker, "a", `{"a":1}`, "", 3), event("$m", "@b:x", "a", `{"a":9}`, "$n", 4)}, "9", false},
		"deleted here":              {[]Event{event("$1", account, "a", `{"a":1}`, "", 1)}, []Event{event("$n", "@b:x", "a", `{}`, "$before", 3)}, "", false},
		"deleted upon the copy":     {[]Event{event("$1", account, "a", `{"a":1}`, "", 1)}, []Event{event("$n", maker, "a", `{"a":1}`, "", 3), event("$m", maker, "a", `{}`, "$n", 4)}, "", false},
		"something else is there":   {[]Event{event("$1", account, "a", `{"a":1}`, "", 1)}, []Event{event("$n", "@b:x", "a", `{"theirs":1}`, "", 3)}, "", false},
		"by a slow memory":          {[]Event{event("$1", account, "a", `{"a":1}`, "", 1), event("$2", account, "a", `{"a":2}`, "$1", 4)}, []Event{event("$n", "@b:x", "a", `{"a":1}`, "", until+1)}, "2", true},
		"by one as slow":            {[]Event{event("$1", account, "a", `{"a":1}`, "", 1)}, []Event{event("$n", "@b:x", "a", `{"a":1}`, "", until+1)}, "1", false},
		"set back to what was":      {[]Event{event("$1", account, "a", `{"a":1}`, "", 1), event("$2", account, "a", `{"a":2}`, "$1", 4)}, []Event{event("$n", "@b:x", "a", `{"a":3}`, "", until+1), event("$m", "@b:x", "a", `{"a":1}`, "$n", until+2)}, "1", false},
		"set to that before it was": {[]Event{event("$1", account, "a", `{"a":1}`, "", 1), event("$2", account, "a", `{"a":2}`, "$1", 4)}, []Event{event("$n", "@b:x", "a", `{"a":1}`, "", 3)}, "1", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := loaded(layout, test.here...)
			inherit(t, r, heritage(t, loaded(layout, test.old...)), test.here...)
			for range 2 { // and after a start
				entry, _, err := r.Get("a")
				if err != nil || string(entry.Raw) != test.want {
					t.Errorf("it holds %s (%v), not %s", entry.Raw, err, test.want)
				}
				saved, err := r.Save()
				if err != nil {
					t.Fatal(err)
				}
				r = New(layout, account)
				if err := r.Restore(saved); err != nil {
					t.Fatal(err)
				}
				r.Expect()
				r.Load(Snapshot{Timeline: test.here})
				r.Settle(true)
			}
			r.Apply(Update{Timeline: []Event{event("$o", account, "other", `{"other":1}`, "", until+1)}})
			if made := mend(t, r, "$mended "); len(made) > 0 != test.mend {
				t.Errorf("it puts %v", made)
			}
			r.Apply(Update{Timeline: []Event{event("$later", "@b:x", "a", `{"a":7}`, r.docs["a"].id, until+5)}})
			if entry, _, _ := r.Get("a"); string(entry.Raw) != "7" {
				t.Errorf("after somebody has set it, it holds %s", entry.Raw)
			}
		})
	}
}

// What opsdroid has put under a state key of its own goes where it belongs, unless that was
// copied.
func TestInheritKeysElsewhere(t *testing.T) {
	layout := wire.Layout{PerKey: true}
	there := Event{ID: "$1", StateKey: "", Sender: account, Content: json.RawMessage(`{".":"theirs"}`), Time: 1}
	h := heritage(t, loaded(layout, there))
	for name, here := range map[string][]Event{"nothing": nil, "a copy": {copyOf(there, "$n")}} {
		r := loaded(layout, here...)
		inherit(t, r, h, here...)
		holds(t, r, map[string]string{".": `"theirs"`})
		made := mend(t, r, "$mended ")
		if here == nil && (len(made) != 1 || made[0].StateKey != layout.Of(".")) || here != nil && made != nil {
			t.Errorf("with %s there it puts %v", name, made)
		}
		holds(t, r, map[string]string{".": `"theirs"`})
	}
}

// What stands under the older event type only goes along, and the new room's copy of that says
// nothing more.
func TestInheritOlderType(t *testing.T) {
	for name, test := range map[string]struct {
		layout wire.Layout
		older  Event
	}{
		"a dictionary": {wire.Layout{}, Event{ID: "$1", Sender: account, Content: json.RawMessage(`{"a":1}`)}},
		"a key each":   {wire.Layout{PerKey: true}, Event{ID: "$1", StateKey: "a", Sender: account, Content: json.RawMessage(`{"a":1}`)}},
	} {
		t.Run(name, func(t *testing.T) {
			load := func(older ...Event) *Room {
				r := New(test.layout, account)
				r.Expect()
				r.Load(Snapshot{Older: older})
				r.Settle(true)
				return r
			}
			old := load(test.older)
			want := map[string]string{"a": "1"}
			if test.layout.PerKey { // there the content is the value
				want["a"] = `{"a":1}`
			}
			r := load()
			inherit(t, r, heritage(t, old))
			holds(t, r, want)
			mend(t, r, "$mended ")
			copied := load(test.older)
			inherit(t, copied, heritage(t, load()))
			holds(t, copied, want)
		})
	}
}

// A memory takes a key along while another one sets it: that counts, in whatever way the
// first one hears of it.
func TestSetWhileTakenAlong(t *testing.T) {
	layout := wire.Layout{PerKey: true}
	old := loaded(layout)
	copied := copyOf(set(t, old, "$old", "a", `1`), "$copy")
	set(t, old, "$old2", "a", `2`)
	theirs := Event{ID: "$theirs", StateKey: "a", Sender: "@b:x", Content: json.RawMessage(`{"a":7}`), Time: until + 1}
	deleted := theirs
	deleted.Content = json.RawMessage(`{}`)
	slow := theirs
	slow.Content = json.RawMessage(`{"a":1}`)
	for name, test := range map[string]struct {
		here   []Event
		theirs Event
		want   string
	}{
		"set":                         {nil, theirs, "7"},
		"set upon a copy":             {[]Event{copied}, theirs, "7"},
		"deleted":                     {[]Event{copied}, deleted, ""},
		"taken along by a slower one": {nil, slow, "2"},
	} {
		for how, hear := range map[string]func(r *Room, theirs, ours Event){
			"both come down sync": func(r *Room, theirs, ours Event) {
				r.Apply(Update{Timeline: []Event{theirs}})
				r.Apply(Update{Timeline: []Event{ours}})
			},
			"after a gap": func(r *Room, theirs, ours Event) {
				r.Missed()
				r.Expect()
				r.Load(Snapshot{Timeline: []Event{theirs, ours}})
				r.Settle(false)
			},
			"only the own event does": func(r *Room, theirs, ours Event) {
				ours.Before, ours.BeforeFrom = theirs.Content, theirs.Sender
				r.Apply(Update{Timeline: []Event{ours}})
			},
			"after a start": func(r *Room, theirs, ours Event) {
				saved, _ := r.Save()
				again := New(layout, account)
				if err := again.Restore(saved); err != nil {
					panic(err)
				}
				r.docs, r.behind = again.docs, 1
				r.Expect()
				r.Load(Snapshot{Timeline: []Event{theirs, ours}})
				r.Settle(false)
			},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				r := loaded(layout, test.here...)
				inherit(t, r, heritage(t, old), test.here...)
				ours := mend(t, r, "$ours ")[0]
				theirs := test.theirs
				theirs.Replaces, ours.Replaces = ours.Replaces, theirs.ID
				hear(r, theirs, ours)
				for range 2 { // it asks, and then it mends
					if task, ok := r.Task("a"); ok && task.Ask {
						r.Answer("a", ours.Content, true, r.Count("a"), nil)
					}
				}
				if entry, _, _ := r.Get("a"); string(entry.Raw) != test.want {
					t.Errorf("it holds %s, not %s", entry.Raw, test.want)
				}
				made := mend(t, r, "$again ")
				if got := len(made) > 0; got != (test.want != "2") {
					t.Errorf("it puts %v", made)
				}
				if entry, _, _ := r.Get("a"); string(entry.Raw) != test.want {
					t.Errorf("it holds %s then, not %s", entry.Raw, test.want)
				}
			})
		}
	}
}

// What was sent in the old room and of which nobody knows whether it arrived is looked for in what
// that has left.
func TestFateAfterAnUpgrade(t *testing.T) {
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			old := loaded(layout)
			set(t, old, "$1", "a", `1`)
			changes := map[string]json.RawMessage{"a": json.RawMessage(`2`)}
			draft, err := old.Draft(layout.Of("a"), changes, sentFirst(changes), 60_000)
			if err != nil {
				t.Fatal(err)
			}
			first := draft.Attempt()
			after := func() *Room {
				r := loaded(layout)
				inherit(t, r, heritage(t, old))
				return r
			}
			if fate := after().Fate("a", &first); fate != Missing {
				t.Errorf("of what has not arrived the fate is %v", fate)
			}
			old.Commit(layout.Of("a"), draft, "$2")
			if fate := after().Fate("a", &first); layout.PerKey && fate != Ours || !layout.PerKey && fate != Arrived {
				t.Errorf("of what has arrived the fate is %v", fate)
			}
			set(t, old, "$3", "a", `3`)
			if !layout.PerKey {
				if fate := after().Fate("a", &first); fate != Replaced {
					t.Errorf("of what was replaced the fate is %v", fate)
				}
			}
		})
	}
}

// A memory that follows late and can't read what was long ago brings nothing back that was
// deleted in the new room.
func TestLateHeir(t *testing.T) {
	layout := wire.Layout{}
	old := loaded(layout)
	for i := range 40 {
		set(t, old, fmt.Sprintf("$old%d", i), fmt.Sprintf("key %d", i), `1`)
	}
	h := heritage(t, old)
	first := loaded(layout)
	inherit(t, first, h)
	events := mend(t, first, "$new")
	events = append(events, set(t, first, "$deleted", "key 3", ``))
	for i := range 2 * maxEvents {
		events = append(events, set(t, first, fmt.Sprintf("$later%d", i), fmt.Sprintf("key %d", 5+i%30), fmt.Sprint(i)))
	}
	for _, n := range []int{1, 5, 20, len(events)} {
		recent := slices.Clone(events[len(events)-n:])
		late := New(layout, account)
		late.Expect()
		late.Load(Snapshot{Timeline: recent})
		late.Settle(false)
		slices.Reverse(recent)
		inherit(t, late, h, recent...)
		for late.Behind("") { // older events can't be had
			late.Missed()
			late.Expect()
			late.Load(Snapshot{Timeline: events[len(events)-n:]})
			late.Settle(false)
		}
		if entry, ok, _ := late.Get("key 3"); ok {
			t.Errorf("with %d events known, what was deleted holds %s", n, entry.Raw)
		}
		if todo := late.Todo(); len(todo) > 0 {
			t.Errorf("with %d events known, %v is to be done", n, todo)
		}
	}
}

// Somebody sets or deletes a key in the new room while a memory is putting there what the old one had left. Whichever the memory
// hears of first, its answer or one of the events, what that somebody did counts, and is put back.
func TestLeftIsPutOverWhatSomebodySet(t *testing.T) {
	layout := wire.Layout{PerKey: true}
	for _, content := range []string{`{"a":7}`, `{}`} {
		for _, first := range []string{"the answer", "theirs", "the echo"} {
			t.Run(content+" "+first, func(t *testing.T) {
				r := loaded(layout)
				inherit(t, r, heritage(t, loaded(layout, Event{ID: "$1", StateKey: "a", Sender: account, Content: json.RawMessage(`{"a":1}`), Time: 1})))
				draft, err := r.Draft("a", nil, nil, 60_000)
				if err != nil {
					t.Fatal(err)
				}
				theirs := Event{ID: "$theirs", StateKey: "a", Sender: "@b:x", Content: json.RawMessage(content), Time: until + 2}
				own := Event{ID: "$own", StateKey: "a", Sender: account, Content: draft.Content, Time: until + 3, Replaces: "$theirs", Before: theirs.Content, BeforeFrom: theirs.Sender}
				hear := func(events ...Event) { r.Apply(Update{Timeline: events}) }
				switch first {
				case "the answer":
					r.Commit("a", draft, own.ID)
					hear(theirs, own)
				case "theirs":
					hear(theirs)
					r.Commit("a", draft, own.ID)
					hear(own)
				default:
					hear(theirs, own)
					r.Commit("a", draft, own.ID)
				}
				count := r.Count("a")
				r.Answer("a", draft.Content, true, count, nil) // what stands there, where that is asked
				entry, _, err := r.Get("a")
				if want := strings.TrimSuffix(strings.TrimPrefix(content, `{"a":`), `}`); err != nil || string(entry.Raw) != strings.Trim(want, "{") {
					t.Fatalf("it holds %s (%v)", entry.Raw, err)
				}
				if made := mend(t, r, "$mended "); len(made) != 1 || string(made[0].Content) != content {
					t.Errorf("it puts %v", made)
				}
			})
		}
	}
}
