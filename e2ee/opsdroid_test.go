//go:build goolm

package e2ee_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// The steps that a real opsdroid took in encrypted rooms are taken again: pointers
// stand in the state in the same places, the answers are the same, and what they
// point at is what opsdroid sent, but for the value that looks like a pointer, which
// is told apart from one: another member's plain mautrix client decrypts it.
func TestOpsdroidRecordings(t *testing.T) {
	var recordings []struct {
		Name           string `json:"name"`
		Encrypted      bool   `json:"encrypted_room"`
		SingleStateKey any    `json:"single_state_key"`
		Steps          []struct {
			Op       string            `json:"op"`
			Args     []json.RawMessage `json:"args"`
			Returned json.RawMessage   `json:"returned"`
			State    []struct {
				StateKey string                     `json:"state_key"`
				Content  map[string]json.RawMessage `json:"content"`
			} `json:"state_after"`
		} `json:"steps"`
	}
	text, err := os.ReadFile("../internal/wire/testdata/opsdroid-wire.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &recordings))

	played := 0
	for _, r := range recordings {
		if !r.Encrypted {
			continue // the module's own tests play these
		}
		played++
		t.Run(r.Name, func(t *testing.T) {
			bot, other := register(t), newPeer(t, register(t))
			room := bot.newRoom(t, other.account)
			conf := bot.config(t, room)
			switch key := r.SingleStateKey.(type) {
			case string:
				conf.SingleStateKey = matrix.StateKey(key)
			case bool:
				if !key {
					conf.SingleStateKey = matrix.PerKey
				}
			}
			memory := open(t, conf).InRoom("main")
			values := make(map[string]json.RawMessage)
			for i, step := range r.Steps {
				var key string
				var keys []string
				if json.Unmarshal(step.Args[0], &key) == nil {
					keys = []string{key}
				} else {
					require.NoError(t, json.Unmarshal(step.Args[0], &keys))
				}
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
					want[state.StateKey] = []string{}
					for key := range state.Content {
						want[state.StateKey] = append(want[state.StateKey], key)
					}
				}
				standing, err := bot.State(t.Context(), room)
				require.NoError(t, err)
				require.Len(t, standing[rig.MemoryType], len(want), "step %d", i)
				for stateKey, evt := range standing[rig.MemoryType] {
					var content map[string]map[string]id.EventID
					require.NoError(t, json.Unmarshal(evt.Content.VeryRaw, &content))
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
	require.Equal(t, 3, played)
}
