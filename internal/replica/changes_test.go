package replica

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/go-joe/matrix-memory/internal/wire"
)

const other = "@other:x"

// ear collects what a room tells, as text.
func ear(r *Room) func() string {
	var told []string
	r.Tell(func(changes []Change) {
		for _, c := range changes {
			told = append(told, fmt.Sprintf("%s=%s %s %s own=%v", c.Key, c.Entry.Raw, c.EventID, c.Sender, c.Own))
		}
	})
	return func() string {
		all := fmt.Sprint(told)
		told = nil
		return all
	}
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s is told as\n%s, want\n%s", what, got, want)
	}
}

func draftOf(t *testing.T, r *Room, stateKey, key, value string) Draft {
	t.Helper()
	draft, err := r.Draft(stateKey, map[string]json.RawMessage{key: json.RawMessage(value)}, map[string]*Attempt{key: nil}, 60_000)
	if err != nil {
		t.Fatal(err)
	}
	return draft
}

// Each change is told once, with whose it is: an own write when it is acknowledged or its event is heard, whichever is
// first, and not once more when the other comes; others' when they are heard. What is loaded first is no change, nor is what
// was restored.
func TestTell(t *testing.T) {
	for name, layout := range map[string]wire.Layout{"single": {}, "custom": {StateKey: "my.key"}, "per key": {PerKey: true}} {
		t.Run(name, func(t *testing.T) {
			r := New(layout, account)
			told := ear(r)
			stateKey := layout.Of("tea")
			r.Expect()
			r.Load(Snapshot{State: []Event{{ID: "$first", StateKey: stateKey, Sender: other, Content: json.RawMessage(`{"tea":1}`)}}})
			r.Settle(true)
			expect(t, "what is loaded", told(), "[]")

			draft := draftOf(t, r, stateKey, "tea", `2`)
			r.Commit(stateKey, draft, "$own")
			expect(t, "an acknowledged write", told(), "[tea=2 $own "+account+" own=true]")
			r.Apply(Update{Timeline: []Event{{ID: "$own", StateKey: stateKey, Sender: account, Replaces: "$first", Content: draft.Content}}})
			expect(t, "its echo", told(), "[]")

			draft = draftOf(t, r, stateKey, "tea", `3`)
			r.Apply(Update{Timeline: []Event{{ID: "$quick", StateKey: stateKey, Sender: account, Replaces: "$own", Content: draft.Content}}})
			expect(t, "an echo that is first", told(), "[tea=3 $quick "+account+" own=true]")
			r.Commit(stateKey, draft, "$quick")
			expect(t, "its answer", told(), "[]")

			draft = draftOf(t, r, stateKey, "tea", `4`)
			r.Doubt(stateKey, draft)
			r.Apply(Update{Timeline: []Event{{ID: "$doubted", StateKey: stateKey, Sender: account, Replaces: "$quick", Content: draft.Content}}})
			expect(t, "a write that nobody has acknowledged", told(), "[tea=4 $doubted "+account+" own=true]")

			r.Apply(Update{Timeline: []Event{{ID: "$other", StateKey: stateKey, Sender: other, Replaces: "$doubted", Content: json.RawMessage(`{"tea":5}`)}}})
			expect(t, "another's", told(), "[tea=5 $other "+other+" own=false]")
			r.Apply(Update{Timeline: []Event{{ID: "$same", StateKey: stateKey, Sender: account, Replaces: "$other", Content: json.RawMessage(`{"tea":6}`)}}})
			expect(t, "another process's of the account", told(), "[tea=6 $same "+account+" own=false]")
			saved, err := r.Save()
			if err != nil {
				t.Fatal(err)
			}
			r.Apply(Update{Timeline: []Event{{ID: "$gone", StateKey: stateKey, Sender: other, Replaces: "$same", Content: json.RawMessage(`{}`)}}})
			expect(t, "a deletion", told(), "[tea= $gone "+other+" own=false]")

			r = New(layout, account)
			told = ear(r)
			if err := r.Restore(saved); err != nil {
				t.Fatal(err)
			}
			expect(t, "what is restored", told(), "[]")
			r.Expect()
			r.Load(Snapshot{State: []Event{{ID: "$same", StateKey: stateKey, Sender: account, Content: json.RawMessage(`{"tea":6}`)}},
				Timeline: []Event{{ID: "$gone", StateKey: stateKey, Sender: other, Replaces: "$same", Content: json.RawMessage(`{}`)}, {ID: "$later", StateKey: stateKey, Sender: other, Replaces: "$gone", Content: json.RawMessage(`{"tea":7}`)}}})
			r.Settle(true)
			expect(t, "what was changed meanwhile", told(), "[tea=7 $later "+other+" own=false]")
		})
	}
}

// What somebody says who has built upon an own write that nobody has acknowledged so far is the own change still.
func TestTellOfAnOwnChangeThatIsHeardFromOthers(t *testing.T) {
	layout := wire.Layout{}
	r := loadedRoom(layout, map[string]string{"": `{"tea":1}`})
	told := ear(r)
	draft := draftOf(t, r, "", "tea", `2`)
	content := append(draft.Content[:len(draft.Content)-1:len(draft.Content)-1], `,"theirs":1}`...) // as opsdroid writes what it does not know
	r.Apply(Update{Gap: true, Timeline: []Event{{ID: "$theirs", StateKey: "", Sender: other, Replaces: "$own", Content: content}}})
	expect(t, "what both have changed", told(), "[tea=2 $theirs "+other+" own=true theirs=1 $theirs "+other+" own=false]")
}

// What a redaction takes away was not changed by who had set it, nor by who had set what is there then.
func TestTellOfARedaction(t *testing.T) {
	for name, layout := range map[string]wire.Layout{"single": {}, "per key": {PerKey: true}} {
		t.Run(name, func(t *testing.T) {
			stateKey := layout.Of("tea")
			back := map[bool]string{true: "", false: "1"}[layout.PerKey] // a dictionary falls back to what it was before
			for _, own := range []bool{true, false} {
				r := loadedRoom(layout, nil)
				draft := draftOf(t, r, stateKey, "tea", `1`)
				r.Commit(stateKey, draft, "$first")
				r.Apply(Update{Timeline: []Event{{ID: "$first", StateKey: stateKey, Sender: account, Content: draft.Content}}})
				e := Event{ID: "$second", StateKey: stateKey, Sender: other, Replaces: "$first", Content: json.RawMessage(`{"tea":2}`)}
				if own {
					draft = draftOf(t, r, stateKey, "tea", `2`)
					r.Commit(stateKey, draft, "$second")
					e.Sender, e.Content = account, draft.Content
				}
				r.Apply(Update{Timeline: []Event{e}})
				told := ear(r)
				r.Redacted("$second")
				expect(t, "that it is gone", told(), "[tea="+back+" $second  own=false]")
			}
		})
	}
}
