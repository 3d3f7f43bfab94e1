package replica

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/go-joe/matrix-memory/internal/wire"
	"pgregory.net/rapid"
)

func recount(layout wire.Layout, key string, pages ...[]Event) string {
	h := New(layout, account).History(key)
	var all []string
	tell := func(changes []Change) {
		for _, c := range changes {
			all = append(all, fmt.Sprintf("%s=%s by %s", c.EventID, c.Entry.Raw, c.Sender))
		}
	}
	for _, page := range pages {
		tell(h.Add(page))
	}
	tell(h.End())
	return fmt.Sprint(all)
}

// Of events without stamps, the one that differs from the one before has changed the key.
func TestHistoryWithoutStamps(t *testing.T) {
	e := func(id, content string) Event {
		return Event{ID: "$" + id, Sender: "@" + id, Content: json.RawMessage(content)}
	}
	redacted := e("redacted", `{}`)
	redacted.Redacted = true
	newest := []Event{e("8", `{"a":1}`), e("7", `{"a":1,"b":1}`), redacted, e("6", `{}`), e("5", `{"b":1}`), e("4", `[]`), e("3", `{"a":2}`), e("2", `{"a":2,"b":1}`), e("1", `{"b":0}`)}
	for at := range newest {
		expect(t, "a", recount(wire.Layout{}, "a", newest[:at], newest[at:]), "[$7=1 by @7 $5= by @5 $2=2 by @2]")
	}
	expect(t, "a, the page twice", recount(wire.Layout{}, "a", newest[:3], newest[:3][2:], newest[3:]), "[$7=1 by @7 $5= by @5 $2=2 by @2]")
	expect(t, "b", recount(wire.Layout{}, "b", newest), "[$8= by @8 $7=1 by @7 $6= by @6 $5=1 by @5 $3= by @3 $2=1 by @2 $1=0 by @1]")
	expect(t, "a key that never was", recount(wire.Layout{}, "c", newest), "[]")
	expect(t, "nothing", recount(wire.Layout{}, "a"), "[]")
}

// A change that was sent in vain first was made when it arrived, once, however many events carry it along; and one of a program
// as opsdroid was made in its own event, though memories give it a stamp later.
func TestHistoryOfWhatIsCarriedAlong(t *testing.T) {
	layout := wire.Layout{}
	r := loadedRoom(layout, nil)
	var newest []Event
	arrives := func(id, sender string, content json.RawMessage) {
		e := Event{ID: id, Sender: sender, Content: content}
		if len(newest) > 0 {
			e.Replaces = newest[0].ID
		}
		r.Apply(Update{Timeline: []Event{e}})
		newest = append([]Event{e}, newest...)
	}
	writes := func(id, key, value string, first *Attempt) {
		draft, err := r.Draft("", map[string]json.RawMessage{key: json.RawMessage(value)}, map[string]*Attempt{key: first}, 60_000)
		if err != nil {
			t.Fatal(err)
		}
		r.Commit("", draft, id)
		arrives(id, account, draft.Content)
	}
	writes("$0", "milk", `1`, nil)
	lost := draftOf(t, r, "", "tea", `1`)
	r.Doubt("", lost)
	attempt := lost.Attempt()
	writes("$1", "tea", `1`, &attempt)
	writes("$2", "milk", `2`, nil)
	theirs, err := layout.Decode("", newest[0].Content)
	if err != nil {
		t.Fatal(err)
	}
	content := theirs.With(map[string]json.RawMessage{"rum": json.RawMessage(`1`)})
	content.Write = theirs.Write
	arrives("$3", other, content.Content())
	writes("$4", "milk", `3`, nil)
	for at := range newest {
		expect(t, "tea", recount(layout, "tea", newest[:at], newest[at:]), "[$1=1 by "+account+"]")
		expect(t, "rum", recount(layout, "rum", newest[:at], newest[at:]), "[$3=1 by "+other+"]")
		expect(t, "milk", recount(layout, "milk", newest[:at], newest[at:]), "[$4=3 by "+account+" $2=2 by "+account+" $0=1 by "+account+"]")
	}
}

// A memory alone sets and deletes keys at random, several at once: the history of each tells just that, in the same order.
func TestHistoryTellsAllThatWasChanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		layout := wire.Layout{}
		r := loadedRoom(layout, nil)
		limit := rapid.SampledFrom([]int{700, 60_000}).Draw(t, "limit") // not all stamps find a place in the one
		want := make(map[string]string)
		has := make(map[string]string)
		var newest []Event
		last := ""
		for i := range rapid.IntRange(1, 40).Draw(t, "writes") {
			changes, changed := make(map[string]json.RawMessage), make(map[string]*Attempt)
			id := fmt.Sprint("$", i)
			for _, k := range rapid.SliceOfNDistinct(rapid.IntRange(0, 30), 1, 30, rapid.ID[int]).Draw(t, "keys") {
				key := fmt.Sprint("k", k)
				value := rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "value")
				if value == has[key] {
					continue
				}
				has[key], changed[key] = value, nil
				changes[key] = nil
				if value != "" {
					changes[key] = json.RawMessage(value)
				}
				want[key] = fmt.Sprintf(" %s=%s by %s%s", id, value, account, want[key])
			}
			if len(changes) == 0 {
				continue
			}
			draft, err := r.Draft("", changes, changed, limit)
			if err != nil {
				t.Fatal(err)
			}
			r.Commit("", draft, id)
			e := Event{ID: id, Sender: account, Replaces: last, Content: draft.Content}
			r.Apply(Update{Timeline: []Event{e}})
			newest, last = append([]Event{e}, newest...), id
		}
		for k := range 31 {
			key := fmt.Sprint("k", k)
			told := want[key]
			if told != "" {
				told = told[1:]
			}
			if got := recount(layout, key, newest); got != "["+told+"]" {
				t.Fatalf("%s: told %s, want [%s]", key, got, told)
			}
		}
	})
}
