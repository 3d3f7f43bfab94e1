package wire

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a real opsdroid did, step by step, on a real homeserver: what it was
// asked for, what it answered, and the room's state events afterwards.
type recording struct {
	Name      string
	Encrypted bool            `json:"encrypted_room"`
	StateKey  json.RawMessage `json:"single_state_key"`
	Steps     []step
}

type step struct {
	Op       string
	Args     []json.RawMessage
	Returned json.RawMessage
	State    []struct {
		StateKey string `json:"state_key"`
		Content  json.RawMessage
	} `json:"state_after"`
}

// opsdroid writes what looks like a pointer as it is, and then can't tell it
// from one. Here it is wrapped, so this key is compared apart.
const lookalikeKey = "looks like a pointer"

func (r recording) layout(t *testing.T) Layout {
	switch string(r.StateKey) {
	case "true":
		return Layout{}
	case "false":
		return Layout{PerKey: true}
	}
	var layout Layout
	require.NoError(t, json.Unmarshal(r.StateKey, &layout.StateKey))
	return layout
}

func (s step) keys(t *testing.T) (keys []string) {
	if json.Unmarshal(s.Args[0], &keys) != nil {
		keys = make([]string, 1)
		require.NoError(t, json.Unmarshal(s.Args[0], &keys[0]))
	}
	return keys
}

func TestOpsdroid(t *testing.T) {
	text, err := os.ReadFile("testdata/opsdroid-wire.json")
	require.NoError(t, err)
	var recordings []recording
	require.NoError(t, json.Unmarshal(text, &recordings))
	require.Len(t, recordings, 6)
	for _, r := range recordings {
		t.Run(r.Name, func(t *testing.T) { replay(t, r) })
	}
}

// replay does the steps with this package's dictionaries, and expects
// opsdroid's state after each.
func replay(t *testing.T, r recording) {
	layout := r.layout(t)
	ours := map[string]Dictionary{}
	for _, step := range r.Steps {
		theirs := map[string]Dictionary{}
		for _, event := range step.State {
			d, err := layout.Decode(event.StateKey, event.Content)
			require.NoError(t, err)
			require.Empty(t, d.Rest)
			require.JSONEq(t, string(event.Content), string(d.Content()))
			theirs[event.StateKey] = d
		}
		for _, key := range step.keys(t) {
			place := layout.Of(key)
			their := theirs[place].Entries[key]
			switch step.Op {
			case "put":
				write(t, r, step, ours, place, key, their)
			case "get":
				requireAnswer(t, r, step, key, their)
			case "delete":
				if _, ok := ours[place].Entries[key]; ok {
					ours[place] = ours[place].With(map[string]json.RawMessage{key: nil})
				}
			}
		}
		requireState(t, theirs, ours)
	}
}

func write(t *testing.T, r recording, step step, ours map[string]Dictionary, place, key string, their Entry) {
	raw, sealed := EncodeValue(step.Args[1]), EncodeSealed(step.Args[1])
	switch {
	case string(step.Returned) != "true":
		require.Equal(t, textName, wrapper(t, raw), "opsdroid could not store %q: %s", key, step.Returned)
		return
	case r.Encrypted:
		require.NotEmpty(t, their.Pointer)
		if key != lookalikeKey {
			require.JSONEq(t, string(step.Args[1]), string(sealed))
		}
		raw = EncodePointer(their.Pointer)
	case key == lookalikeKey:
		require.Equal(t, textName, wrapper(t, raw))
	}
	ours[place] = ours[place].With(map[string]json.RawMessage{key: raw})
}

// requireAnswer reads what opsdroid wrote, as far as the state holds it.
func requireAnswer(t *testing.T, r recording, step step, key string, their Entry) {
	require.NoError(t, their.Err)
	switch {
	case string(step.Returned) == "null":
		require.Nil(t, their.Raw, "%q is not there", key)
	case r.Encrypted:
		require.NotEmpty(t, their.Pointer)
		value, err := DecodeSealed(step.Returned)
		require.NoError(t, err)
		require.JSONEq(t, string(step.Returned), string(value), "opsdroid seals values as they are")
	case key == lookalikeKey:
		require.Equal(t, "$nope", their.Pointer, "opsdroid failed to read the event and answered with the pointer")
	default:
		require.JSONEq(t, string(step.Returned), string(their.Value))
	}
}

func requireState(t *testing.T, theirs, ours map[string]Dictionary) {
	require.Len(t, ours, len(theirs))
	for place, their := range theirs {
		require.Contains(t, ours, place)
		require.Len(t, ours[place].Entries, len(their.Entries))
		for key, entry := range their.Entries {
			if key == lookalikeKey && entry.Pointer == "$nope" {
				require.JSONEq(t, `{"encrypted_val":"$nope"}`, string(ours[place].Entries[key].Value))
				continue
			}
			require.Equal(t, string(entry.Raw), string(ours[place].Entries[key].Raw))
		}
	}
}
