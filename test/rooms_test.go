package test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"

	matrix "github.com/go-joe/matrix-memory"
)

// A room that the bot joins later works, one that it is kicked from says so, and
// after coming back what was stored is there.
func TestJoinedLaterAndKicked(t *testing.T) {
	bot, owner := register(t), register(t)
	memory := open(t, bot.config(bot.newRoom(t)))
	room := owner.newRoom(t)
	handle := memory.InRoom(room.String())

	gone := func(err error) bool {
		return isAny(err, matrix.ErrUnknownRoom, matrix.ErrForbidden)
	}
	require.True(t, gone(handle.Set("key", 1)), "not in the room yet")

	levels := map[string]any{"users": map[string]any{owner.UserID().String(): 100, bot.UserID().String(): 50}}
	_, err := owner.SendStateEvent(t.Context(), room, event.StatePowerLevels, "", levels)
	require.NoError(t, err)
	enter := func() {
		_, err := owner.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: bot.UserID()})
		require.NoError(t, err)
		_, err = bot.JoinRoomByID(t.Context(), room)
		require.NoError(t, err)
	}
	enter()
	require.NoError(t, handle.Set("key", 1))

	_, err = owner.KickUser(t.Context(), room, &mautrix.ReqKickUser{UserID: bot.UserID()})
	require.NoError(t, err)
	eventually(t, func() bool { _, err := handle.Get("key", nil); return gone(err) }, "reading after the kick")
	require.True(t, gone(handle.Set("key", 2)))
	_, err = handle.Keys()
	require.True(t, gone(err))

	_, err = owner.SendStateEvent(t.Context(), room, memoryType, "", map[string]any{"key": 1, "meanwhile": true})
	require.NoError(t, err)
	enter()
	eventually(t, func() bool { return handle.Set("again", 3) == nil }, "writing after the return")
	var value int
	ok, err := handle.Get("key", &value)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 1, value)
	ok, err = handle.Get("meanwhile", nil)
	require.NoError(t, err)
	require.True(t, ok)
	require.JSONEq(t, `{"key":1,"meanwhile":true,"again":3}`, owner.state(t, room)[""])
}

func isAny(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// What others write shows up, also after more changes than one sync carries.
func TestOtherWriters(t *testing.T) {
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			bot := register(t)
			room := bot.newRoom(t)
			conf := bot.config(room)
			conf.SingleStateKey = layout
			memory := open(t, conf)
			require.NoError(t, memory.Set("ours", []byte(`1`)))
			stateKey := func(key string) string {
				switch layout {
				case matrix.OneStateKey, "my.key":
					return string(layout)
				}
				return key
			}
			write := func(key string, content map[string]any) {
				_, err := bot.SendStateEvent(t.Context(), room, memoryType, stateKey(key), content)
				require.NoError(t, err)
			}
			write("theirs", map[string]any{"theirs": "x"})
			eventually(t, func() bool { value, ok, err := memory.Get("theirs"); return err == nil && ok && string(value) == `"x"` }, "the first change")
			if layout != matrix.PerKey {
				_, ok, err := memory.Get("ours")
				require.NoError(t, err)
				require.False(t, ok, "they wrote a dictionary without it")
			}
			for i := range 30 {
				write("theirs", map[string]any{"theirs": i})
			}
			eventually(t, func() bool { value, ok, err := memory.Get("theirs"); return err == nil && ok && string(value) == `29` }, "the last change")
			require.NoError(t, memory.Set("ours", []byte(`2`)))
			value, _, err := memory.Get("theirs")
			require.NoError(t, err)
			require.Equal(t, `29`, string(value))
		})
	}
}

// Two bots that write one dictionary at the same time don't take away each
// other's keys.
func TestTwoBotsOneDictionary(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	one, two := open(t, bot.config(room)), open(t, bot.config(room))
	require.NoError(t, one.Set("start", []byte(`1`)))
	eventually(t, func() bool { _, ok, _ := two.Get("start"); return ok }, "the start")
	require.NoError(t, two.Set("start2", []byte(`1`)))
	eventually(t, func() bool { _, ok, _ := one.Get("start2"); return ok }, "the start")

	for i := range 3 {
		key := string(rune('a' + i))
		done := make(chan error, 2)
		go func() { done <- one.Set("one-"+key, []byte(`1`)) }()
		go func() { done <- two.Set("two-"+key, []byte(`2`)) }()
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		eventually(t, func() bool {
			for _, memory := range []*matrix.Memory{one, two} {
				for _, who := range []string{"one-", "two-"} {
					if _, ok, err := memory.Get(who + key); err != nil || !ok {
						return false
					}
				}
			}
			return true
		}, "round %d: both keys in both memories; the room has %s", i, bot.state(t, room))
	}
	require.JSONEq(t, `{"start":1,"start2":1,"one-a":1,"two-a":2,"one-b":1,"two-b":2,"one-c":1,"two-c":2}`, bot.state(t, room)[""])
}

// A redacted state event has lost what it held, and the memory says so.
func TestRedacted(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	memory := open(t, bot.config(room))
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	all, err := bot.State(t.Context(), room)
	require.NoError(t, err)
	_, err = bot.RedactEvent(t.Context(), room, all[memoryType][""].ID)
	require.NoError(t, err)
	eventually(t, func() bool { _, ok, err := memory.Get("tea"); return err == nil && !ok }, "the redaction")
	require.NoError(t, memory.Set("coffee", []byte(`"black"`)))
	require.JSONEq(t, `{"coffee":"black"}`, bot.state(t, room)[""])
}

// Custom state keys are name spaces of their own.
func TestNameSpaces(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	single, custom := bot.config(room), bot.config(room)
	custom.SingleStateKey = "my.key"
	one, two := open(t, single), open(t, custom)
	require.NoError(t, one.Set("tea", []byte(`"green"`)))
	require.NoError(t, two.Set("tea", []byte(`"black"`)))
	value, _, err := one.Get("tea")
	require.NoError(t, err)
	require.Equal(t, `"green"`, string(value))

	// The per-key layout passes over both, and does not overwrite them.
	perKey := bot.config(room)
	perKey.SingleStateKey = matrix.PerKey
	three := open(t, perKey)
	require.NoError(t, two.Set("sugar", []byte(`"no"`)))
	keys, err := three.Keys()
	require.NoError(t, err)
	require.Empty(t, keys)
	eventually(t, func() bool { return three.Set("my.key", []byte(`1`)) != nil }, "a state event of another memory in the way")
	require.JSONEq(t, `{"tea":"black","sugar":"no"}`, bot.state(t, room)["my.key"])
}

// The older event type is copied once, in every layout, and stays.
func TestOlderType(t *testing.T) {
	older := event.Type{Type: "opsdroid.database", Class: event.StateEventType}
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			bot := register(t)
			room := bot.newRoom(t)
			stateKey, content, want := string(layout), `{"tea":{"colour":"green"}}`, `{"tea":{"colour":"green"}}`
			if layout == matrix.PerKey {
				stateKey, content = "tea", `{"colour":"green"}`
			}
			_, err := bot.SendStateEvent(t.Context(), room, older, stateKey, rawJSON(content))
			require.NoError(t, err)
			conf := bot.config(room)
			conf.SingleStateKey = layout
			memory := open(t, conf)
			value, ok, err := memory.Get("tea")
			require.NoError(t, err)
			require.True(t, ok)
			require.JSONEq(t, `{"colour":"green"}`, string(value))
			eventually(t, func() bool { return bot.state(t, room)[stateKey] == want }, "the copy")
			all, err := bot.State(t.Context(), room)
			require.NoError(t, err)
			require.JSONEq(t, content, string(all[older][stateKey].Content.VeryRaw))
			was, err := memory.Delete("tea")
			require.NoError(t, err)
			require.True(t, was)
			require.NoError(t, memory.Close())

			memory = matrix.New(conf, matrix.WithLogger(quiet(t)))
			require.NoError(t, memory.Open(context.Background()))
			defer memory.Close()
			_, ok, err = memory.Get("tea")
			require.NoError(t, err)
			require.False(t, ok, "what was deleted does not come back from the older type")
		})
	}
}

// rawJSON is sent as it is.
type rawJSON string

func (r rawJSON) MarshalJSON() ([]byte, error) { return []byte(r), nil }
