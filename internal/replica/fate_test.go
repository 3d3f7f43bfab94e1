package replica

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/go-joe/matrix-memory/internal/wire"
)

func TestStampsOfWhatWasSentBefore(t *testing.T) {
	changed, changes := make(map[string]*Attempt), make(map[string]json.RawMessage)
	for i := range 30 {
		key := fmt.Sprintf("key%d", i)
		changed[key] = &Attempt{At: wire.Stamp{Depth: 4000 + int64(i), ID: "sixteen letters."}}
		changes[key] = json.RawMessage(`1`)
	}
	changed["new"], changes["new"] = nil, json.RawMessage(`1`)
	r := loadedRoom(wire.Layout{}, map[string]string{"": `{}`})
	draft, err := r.Draft("", changes, changed, 500) // which they don't fit in
	if err != nil {
		t.Fatal(err)
	}
	dict, err := wire.Layout{}.Decode("", draft.Content)
	if err != nil || dict.Write == nil {
		t.Fatalf("the write can't be read: %s", draft.Content)
	}
	if dict.Write.Depth <= 4029 || dict.Write.Floor < dict.Write.Depth {
		t.Errorf("it is %d deep, with floor %d", dict.Write.Depth, dict.Write.Floor)
	}
	for key, first := range changed {
		if at, ok := dict.Write.Keys[key]; first != nil && at != first.At || first == nil && ok {
			t.Errorf("%s has the stamp %v, sent before with %v", key, at, first)
		}
	}
	if draft.Attempt().At != (wire.Stamp{Depth: dict.Write.Depth, ID: dict.Write.ID}) {
		t.Errorf("it says that it is sent with %v", draft.Attempt())
	}
}

func TestDraftOfWhatWasReplaced(t *testing.T) {
	for name, layout := range map[string]wire.Layout{"a dictionary": {}, "a key each": {PerKey: true}} {
		t.Run(name, func(t *testing.T) {
			r := loadedRoom(layout, map[string]string{layout.Of("a"): `{"a":1}`})
			change := map[string]json.RawMessage{"a": json.RawMessage(`2`)}
			draft, err := r.Draft(layout.Of("a"), change, map[string]*Attempt{"a": nil}, 60_000)
			if err != nil {
				t.Fatal(err)
			}
			first := draft.Attempt()
			if fate := r.Fate("a", &first); fate != Missing {
				t.Errorf("before anything came, its fate is %v", fate)
			}
			theirs := json.RawMessage(`{"a":3}`)
			if !layout.PerKey {
				at := wire.Write{Depth: first.At.Depth + 1, Keys: map[string]wire.Stamp{"a": {Depth: first.At.Depth + 1}}}
				_, theirs = draft.dict.With(map[string]json.RawMessage{"a": json.RawMessage(`3`)}).Sign(at, [4]byte{}, "@other:x")
			}
			r.Apply(Update{Timeline: []Event{{ID: "$theirs", StateKey: layout.Of("a"), Sender: "@other:x", Content: theirs, Replaces: "$" + layout.Of("a")}}})
			if fate := r.Fate("a", &first); fate != Replaced {
				t.Errorf("after it was changed, its fate is %v", fate)
			}
			if _, err := r.Draft(layout.Of("a"), change, map[string]*Attempt{"a": &first}, 60_000); err != ErrHeard {
				t.Errorf("it is brought back: %v", err)
			}
			r.Missed()
			if fate := r.Fate("a", &first); fate != Unclear {
				t.Errorf("when events may be missing, its fate is %v", fate)
			}
		})
	}
}

// Of a change whose attempt nobody noted it counts what the key held when it was made.
func TestFateOfWhatMayHaveBeenSent(t *testing.T) {
	layout := wire.Layout{PerKey: true}
	r := loadedRoom(layout, map[string]string{layout.Of("a"): `{"a":1}`})
	first := &Attempt{Was: "=" + r.Held("a")}
	if fate := r.Fate("a", first); fate != Missing {
		t.Errorf("nothing has changed, and its fate is %v", fate)
	}
	r.Apply(Update{Timeline: []Event{{ID: "$theirs", StateKey: layout.Of("a"), Sender: "@other:x", Content: json.RawMessage(`{"a":2}`), Replaces: "$" + layout.Of("a")}}})
	if fate := r.Fate("a", first); fate != Replaced {
		t.Errorf("somebody else has changed the key, and its fate is %v", fate)
	}
}
