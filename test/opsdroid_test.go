package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
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

// A key that opsdroid has put keeps the name under which it stands, so that both read what
// the other one writes, whatever the name is.
func TestKeysAsOpsdroidNamesThem(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			r := rig.Crowd(t, rig.Shared(t), 1, layout)[0]
			bot := r.Account
			theirs := rig.NewOpsdroid(t, rig.Shared(t), r, layout)
			by := func(key string) rig.Opsdroid {
				if key == bot.UserID.String() { // a state key that nobody else may use
					return rig.Opsdroid{Account: bot, Room: r.Room, Layout: layout}
				}
				return theirs
			}
			want := make(map[string]string)
			keys := []string{
				`a"b`, `a\b`, "a\nb", "\x7f", "dev.joe.key:dGVh", "dev.joe.sha256:x", "", ".", bot.UserID.String(), "tea",
			}
			if rig.Shared(t).Software() == homeserver.Synapse { // Dendrite stores no U+0000
				keys = append(keys, "nul\x00x")
			}
			same := func(what string) {
				t.Helper()
				rig.Settle(t, want, 0, r)
				for _, key := range keys {
					content, err := by(key).Read(t.Context(), key)
					require.NoError(t, err)
					require.Equal(t, want[key], string(content[key]), "%s: %q", what, key)
				}
			}
			for _, key := range keys {
				require.NoError(t, by(key).Put(t.Context(), key, `1`))
				want[key] = `1`
			}
			same("opsdroid has put them")
			require.NoError(t, r.Set("another", []byte(`1`)))
			want["another"] = `1`
			same("another key was set")
			for i, key := range keys {
				value := fmt.Sprint(2 + i%2)
				require.NoError(t, r.Set(key, []byte(value)))
				want[key] = value
			}
			same("they were set")
			for _, key := range keys {
				require.NoError(t, by(key).Put(t.Context(), key, `3`))
				want[key] = `3`
			}
			same("opsdroid has put them again")
			all, err := r.Keys()
			require.NoError(t, err)
			require.ElementsMatch(t, slices.Collect(maps.Keys(want)), all)
			for _, key := range keys {
				existed, err := r.Delete(key)
				require.NoError(t, err)
				require.True(t, existed, "%q", key)
				delete(want, key)
			}
			same("they were deleted")
		})
	}
}

// A key that a memory has named first has two names once opsdroid puts it. What opsdroid
// put counts, and its name is the one that stays: what opsdroid deletes then is gone.
func TestKeyOfTwoNames(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			r := rig.Crowd(t, rig.Shared(t), 1, layout)[0]
			theirs := rig.NewOpsdroid(t, rig.Shared(t), r, layout)
			const key = `a"b`
			require.NoError(t, r.Set(key, []byte(`1`)))
			content, err := theirs.Read(t.Context(), key)
			require.NoError(t, err)
			require.NotContains(t, content, key, "a homeserver might not keep it: see needsEscape")
			require.NoError(t, theirs.Put(t.Context(), key, `2`))
			rig.Settle(t, map[string]string{key: `2`}, 0, r) // one member, then
			require.NoError(t, theirs.Delete(t.Context(), key))
			rig.Settle(t, map[string]string{}, rig.Lasting, r)
		})
	}
}
