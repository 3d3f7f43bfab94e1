//go:build goolm

package e2ee_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/rig"
)

// The steps that a real opsdroid took in encrypted rooms are taken again: pointers
// stand in the state in the same places, the answers are the same, and what they
// point at is what opsdroid sent, but for the value that looks like a pointer, which
// is told apart from one: another member's plain mautrix client decrypts it.
func TestOpsdroidRecordings(t *testing.T) {
	for _, r := range rig.Recordings(t, true) { // package test plays those of plain rooms
		t.Run(r.Name, func(t *testing.T) {
			bot, other := register(t), newPeer(t, register(t))
			room := bot.newRoom(t, other.account)
			conf := bot.config(t, room)
			conf.SingleStateKey = r.Layout()
			memory := open(t, conf).InRoom("main")
			values := make(map[string]json.RawMessage)
			for i, step := range r.Steps {
				keys := step.Keys(t)
				key := keys[0]
				switch step.Op {
				case "put":
					require.NoError(t, memory.Set(key, step.Args[1]))
					values[key] = step.Args[1]
				case "get":
					var value json.RawMessage
					ok, err := memory.Get(key, &value)
					require.NoError(t, err)
					if !ok {
						value = json.RawMessage(`null`)
					}
					require.JSONEq(t, string(step.Returned), string(value), "step %d", i)
				case "delete":
					was := 0
					for _, key := range keys {
						if values[key] != nil {
							was++
						}
						delete(values, key)
					}
					n, err := memory.DeleteAll(keys...)
					require.NoError(t, err)
					require.Equal(t, was, n, "step %d", i)
				default:
					t.Fatalf("unknown step %q", step.Op)
				}

				want := make(map[string][]string)
				for _, state := range step.State {
					var content map[string]json.RawMessage
					require.NoError(t, json.Unmarshal(state.Content, &content))
					want[state.StateKey] = slices.Collect(maps.Keys(content))
				}
				standing := bot.Standing(t, room)
				require.Len(t, standing, len(want), "step %d", i)
				for stateKey, text := range standing {
					var content map[string]map[string]id.EventID
					require.NoError(t, json.Unmarshal([]byte(text), &content))
					keys := []string{}
					for key, pointer := range content {
						keys = append(keys, key)
						require.Len(t, pointer, 1)
						require.Contains(t, pointer, "encrypted_val")
					}
					require.ElementsMatch(t, want[stateKey], keys, "step %d, state key %q", i, stateKey)
				}
			}
			pointers := bot.pointers(t, room)
			require.Len(t, pointers, len(values))
			for key, eventID := range pointers {
				evt := other.decrypt(t, room, eventID)
				value := values[key]
				if key == "looks like a pointer" {
					value = json.RawMessage(`{"dev.joe.json":"{\"encrypted_val\":\"$nope\"}"}`)
				}
				want, err := json.Marshal(map[string]json.RawMessage{key: value})
				require.NoError(t, err)
				require.JSONEq(t, string(want), string(evt.Content.VeryRaw))
			}
		})
	}
}
