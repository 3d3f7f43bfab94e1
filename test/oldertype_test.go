package test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// older is the type of the state events that opsdroid wrote first.
var older = event.Type{Type: "opsdroid.database", Class: event.StateEventType}

// A custom event type is a name space of its own: what opsdroid wrote under its
// older type is neither read nor copied.
func TestOwnEventTypeLeavesTheOlderAlone(t *testing.T) {
	bot := rig.Register(t)
	r := behind(t, rig.Proxy(t), bot, 15*time.Second, matrix.OneStateKey)
	_, err := bot.SendStateEvent(t.Context(), r.Room, older, "", map[string]int{"old": 1})
	require.NoError(t, err)
	conf := bot.Config(r.Room)
	conf.Homeserver, conf.EventType = r.Front.URL(), "org.example.memory"
	memory := rig.Open(t, conf)
	keys, err := memory.Keys()
	require.NoError(t, err)
	require.Empty(t, keys)
	require.Zero(t, r.Writes())
	require.NoError(t, memory.Set("k", []byte(`1`)))
	require.NoError(t, memory.Close())
	require.Equal(t, map[string]string{"": `{"k":1}`}, bot.StandingOf(t, r.Room, event.Type{Type: "org.example.memory", Class: event.StateEventType}))
	require.Empty(t, bot.Standing(t, r.Room))
}

// A dictionary of the older type is no key of a memory with a state event for each
// key, which leaves it to the layout that it belongs to.
func TestOlderTypeOfAnotherLayout(t *testing.T) {
	bot := rig.Register(t)
	room := bot.NewRoom(t)
	for stateKey, content := range map[string]string{"": `{"tea":"green"}`, bot.UserID.String(): `{"n":1}`} {
		_, err := bot.SendStateEvent(t.Context(), room, older, stateKey, json.RawMessage(content))
		require.NoError(t, err)
	}
	conf := bot.Config(room)
	conf.SingleStateKey = matrix.PerKey
	perKey := rig.Open(t, conf)
	keys, err := perKey.Keys()
	require.NoError(t, err)
	require.Equal(t, []string{bot.UserID.String()}, keys)
	value, ok, err := perKey.Get(bot.UserID.String())
	require.NoError(t, err)
	require.True(t, ok)
	require.JSONEq(t, `{"n":1}`, string(value))
	require.NoError(t, perKey.Close()) // which waits for the copy
	require.NotContains(t, bot.Standing(t, room), "")

	single := rig.Open(t, bot.Config(room))
	value, ok, err = single.Get("tea")
	require.NoError(t, err)
	require.True(t, ok)
	require.JSONEq(t, `"green"`, string(value))
}

// The older event type is copied once, in every layout, and stays.
func TestOlderType(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			bot := rig.Register(t)
			room := bot.NewRoom(t)
			stateKey, content, want := string(layout), `{"tea":{"colour":"green"}}`, `{"tea":{"colour":"green"}}`
			if layout == matrix.PerKey {
				stateKey, content = "tea", `{"colour":"green"}`
			}
			_, err := bot.SendStateEvent(t.Context(), room, older, stateKey, json.RawMessage(content))
			require.NoError(t, err)
			conf := bot.Config(room)
			conf.SingleStateKey = layout
			memory := rig.Open(t, conf)
			value, ok, err := memory.Get("tea")
			require.NoError(t, err)
			require.True(t, ok)
			require.JSONEq(t, `{"colour":"green"}`, string(value))
			eventually(t, func() bool { return bot.Standing(t, room)[stateKey] == want }, "the copy")
			all, err := bot.State(t.Context(), room)
			require.NoError(t, err)
			require.JSONEq(t, content, string(all[older][stateKey].Content.VeryRaw))
			was, err := memory.Delete("tea")
			require.NoError(t, err)
			require.True(t, was)
			require.NoError(t, memory.Close())

			memory = rig.Open(t, conf)
			_, ok, err = memory.Get("tea")
			require.NoError(t, err)
			require.False(t, ok, "what was deleted does not come back from the older type")
		})
	}
}
