package test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A recording is what a real opsdroid did on a real homeserver, step by step.
type recording struct {
	Name           string `json:"name"`
	Encrypted      bool   `json:"encrypted_room"`
	SingleStateKey any    `json:"single_state_key"`
	Steps          []struct {
		Op       string            `json:"op"`
		Args     []json.RawMessage `json:"args"`
		Returned json.RawMessage   `json:"returned"`
		State    []struct {
			StateKey string          `json:"state_key"`
			Content  json.RawMessage `json:"content"`
		} `json:"state_after"`
	} `json:"steps"`
}

func recordings(t *testing.T) (all []recording) {
	t.Helper()
	text, err := os.ReadFile("../internal/wire/testdata/opsdroid-wire.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &all))
	return all
}

// layoutOf returns the layout that a recording was made in.
func (r recording) layout() matrix.StateKey {
	switch key := r.SingleStateKey.(type) {
	case string:
		return matrix.StateKey(key)
	case bool:
		if !key {
			return matrix.PerKey
		}
	}
	return matrix.OneStateKey
}

// The steps that opsdroid took are taken again: the same stands on the wire for
// all that opsdroid could store, and the answers are the same but where
// opsdroid's were wrong:
//
//   - A float is stored; opsdroid raised, as canonical JSON has no floats.
//   - A value that looks like a pointer to an encrypted event is told apart from one.
func TestOpsdroidRecordings(t *testing.T) {
	played := 0
	for _, r := range recordings(t) {
		if r.Encrypted {
			continue // package e2ee plays these
		}
		played++
		t.Run(r.Name, func(t *testing.T) {
			bot := rig.Register(t)
			roomID := bot.NewRoom(t)
			conf := bot.Config(roomID)
			conf.SingleStateKey = r.layout()
			memory := rig.Open(t, conf).InRoom("main")
			for i, step := range r.Steps {
				var key string
				keys := []string{}
				if json.Unmarshal(step.Args[0], &key) == nil {
					keys = append(keys, key)
				} else {
					require.NoError(t, json.Unmarshal(step.Args[0], &keys))
				}
				switch step.Op {
				case "put":
					require.NoError(t, memory.Set(key, step.Args[1]))
				case "get":
					var value json.RawMessage
					ok, err := memory.Get(key, &value)
					require.NoError(t, err)
					switch {
					case key == "float":
						require.Equal(t, "21.5", string(value))
					case string(step.Returned) == "null":
						require.False(t, ok, "step %d", i)
					default:
						require.JSONEq(t, string(step.Returned), string(value), "step %d", i)
					}
				case "delete":
					n, err := memory.DeleteAll(keys...)
					require.NoError(t, err)
					var many []any
					switch {
					case string(step.Returned) == "null":
						require.Zero(t, n, "step %d", i)
					case json.Unmarshal(step.Returned, &many) == nil:
						require.Equal(t, len(many), n, "step %d", i)
					default:
						require.Equal(t, 1, n, "step %d", i)
					}
				default:
					t.Fatalf("unknown step %q", step.Op)
				}

				want := make(map[string]map[string]any)
				for _, state := range step.State {
					want[state.StateKey] = object(t, string(state.Content))
				}
				got := make(map[string]map[string]any)
				for stateKey, content := range bot.Standing(t, roomID) {
					got[stateKey] = object(t, content)
				}
				for _, contents := range []map[string]map[string]any{want, got} {
					for stateKey, content := range contents {
						delete(content, "float")
						delete(content, "looks like a pointer")
						if conf.SingleStateKey == matrix.PerKey && (stateKey == "float" || stateKey == "looks like a pointer") {
							delete(contents, stateKey)
						}
					}
				}
				require.Equal(t, want, got, "step %d", i)
			}
		})
	}
	require.Equal(t, 3, played)
}

// What opsdroid left is read as it is.
func TestReadsOpsdroid(t *testing.T) {
	for _, r := range recordings(t) {
		if r.Encrypted {
			continue
		}
		t.Run(r.Name, func(t *testing.T) {
			bot := rig.Register(t)
			roomID := bot.NewRoom(t)
			last := r.Steps[7]
			for _, state := range last.State {
				bot.Put(t, roomID, state.StateKey, state.Content)
			}
			conf := bot.Config(roomID)
			conf.SingleStateKey = r.layout()
			memory := rig.Open(t, conf).InRoom("main")
			keys, err := memory.Keys()
			require.NoError(t, err)
			require.ElementsMatch(t, []string{"twim", "count", "list", "text"}, keys)
			var hello struct{ Hello string }
			_, err = memory.Get("twim", &hello)
			require.NoError(t, err)
			require.Equal(t, "world", hello.Hello)
		})
	}
}

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	var members map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &members))
	return members
}
