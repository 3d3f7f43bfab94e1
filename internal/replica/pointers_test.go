package replica

import (
	"encoding/json"
	"testing"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// In each layout it is known at any time which encrypted events entries point at: after a load,
// an own write, one that sync brings, and one that takes another pointer's place.
func TestPointers(t *testing.T) {
	pointer := func(eventID string) string { return string(wire.EncodePointer(eventID)) }
	for name, layout := range map[string]wire.Layout{"single": {}, "custom": {StateKey: "my.key"}, "per key": {PerKey: true}} {
		t.Run(name, func(t *testing.T) {
			stateKey := layout.Of("tea")
			r := loadedRoom(layout, map[string]string{stateKey: `{"tea":` + pointer("$loaded") + `}`})
			check := func(want string) {
				t.Helper()
				for _, eventID := range []string{"$loaded", "$written", "$heard"} {
					if r.Points(eventID) != (eventID == want) {
						t.Errorf("whether anything points at %s: %v", eventID, r.Points(eventID))
					}
				}
			}
			check("$loaded")
			draft, err := r.Draft(stateKey, map[string]json.RawMessage{"tea": json.RawMessage(pointer("$written"))}, map[string]*Attempt{"tea": nil}, 60_000)
			if err != nil {
				t.Fatal(err)
			}
			r.Commit(stateKey, draft, "$own")
			check("$written")
			saved, err := r.Save()
			if err != nil {
				t.Fatal(err)
			}
			r.Apply(Update{Timeline: []Event{{ID: "$own", StateKey: stateKey, Sender: account, Content: draft.Content}}})
			check("$written")
			r.Apply(Update{Timeline: []Event{{ID: "$other", StateKey: stateKey, Sender: "@other:x", Replaces: "$own", Content: json.RawMessage(`{"tea":` + pointer("$heard") + `}`)}}})
			check("$heard")
			r = New(layout, account)
			if err := r.Restore(saved); err != nil {
				t.Fatal(err)
			}
			check("$written")
		})
	}
}
