package test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// The steps that opsdroid took are taken again: the same stands on the wire for
// all that opsdroid could store, and the answers are the same but where
// opsdroid's were wrong:
//
//   - A float is stored; opsdroid raised, as canonical JSON has no floats.
//   - A value that looks like a pointer to an encrypted event is told apart from one.
func TestOpsdroidRecordings(t *testing.T) {
	for _, r := range rig.Recordings(t, false) { // package e2ee plays those of encrypted rooms
		t.Run(r.Name, func(t *testing.T) {
			bot := rig.Register(t)
			roomID := bot.NewRoom(t)
			conf := bot.Config(roomID)
			conf.SingleStateKey = r.Layout()
			memory := rig.Open(t, conf).InRoom("main")
			for i, step := range r.Steps {
				keys := step.Keys(t)
				key := keys[0]
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
}

// What opsdroid left is read as it is.
func TestReadsOpsdroid(t *testing.T) {
	for _, r := range rig.Recordings(t, false) {
		t.Run(r.Name, func(t *testing.T) {
			bot := rig.Register(t)
			roomID := bot.NewRoom(t)
			last := r.Steps[7]
			for _, state := range last.State {
				bot.Put(t, roomID, state.StateKey, state.Content)
			}
			conf := bot.Config(roomID)
			conf.SingleStateKey = r.Layout()
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
