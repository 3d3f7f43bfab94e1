package replica

import (
	"encoding/json"
	"testing"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// Another program has put a key, and it is not known yet that this stands in the room. The key keeps the name
// that it was given in what is written then.
func TestNamesOfWhatWasHeard(t *testing.T) {
	r := loadedRoom(wire.Layout{}, map[string]string{"": `{"tea":1}`})
	r.Apply(Update{Timeline: []Event{{ID: "$other", Sender: "@other:x", Replaces: "$unknown", Content: json.RawMessage(`{"a\\b":1,"tea":1}`)}}})
	draft, err := r.Draft("", map[string]json.RawMessage{"milk": json.RawMessage(`1`)}, map[string]*Attempt{"milk": nil}, 60_000)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(draft.Content, &members); err != nil || members[`a\b`] == nil || members["milk"] == nil {
		t.Errorf("%s: %v", draft.Content, err)
	}
}
