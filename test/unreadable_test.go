package test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// What this version can't read is an error, is not overwritten, and survives
// writes to other keys.
func TestUnreadable(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	const foreign = `"dev.joe.key:!!":1,"future":{"dev.joe.future":"x"},"pointer":{"encrypted_val":7},"torn":{"dev.joe.bytes":"%"}`
	_, err := bot.SendStateEvent(t.Context(), room, memoryType, "", rawJSON(`{`+foreign+`,"tea":"green"}`))
	require.NoError(t, err)
	front := proxy(t)
	conf := bot.config(room)
	conf.Homeserver = front.URL()
	r := rig{bot, open(t, conf), front, room, conf.Timeout}
	for _, key := range []string{"future", "pointer", "torn"} {
		_, _, err := r.Get(key)
		r.failed(t, err, "get", key)
		err = r.Set(key, []byte(`"secret"`))
		r.failed(t, err, "set", key)
		require.ErrorIs(t, err, commit.ErrUnreadable)
	}
	require.Zero(t, r.writes())
	keys, err := r.Keys()
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"future", "pointer", "torn", "tea"}, keys)
	require.NoError(t, r.Set("tea", []byte(`"black"`)))
	require.JSONEq(t, `{`+foreign+`,"tea":"black"}`, bot.state(t, room)[""])
	was, err := r.Delete("future")
	require.NoError(t, err)
	require.True(t, was)
	require.NoError(t, r.Set("future", []byte(`1`)))
	r.has(t, "future", `1`)

	// With a state event for each key, what does not belong to the memory is in
	// the way of its own key only.
	_, err = bot.SendStateEvent(t.Context(), room, memoryType, "foreign", rawJSON(`{"a":1,"b":2}`))
	require.NoError(t, err)
	conf.SingleStateKey = matrix.PerKey
	r = rig{bot, open(t, conf), front, room, conf.Timeout}
	front.Reset()
	r.failed(t, r.Set("foreign", []byte(`"secret"`)), "set", "foreign")
	was, err = r.Delete("foreign")
	require.NoError(t, err)
	require.False(t, was, "no key of the memory's stands there")
	require.Zero(t, r.writes())
	require.NoError(t, r.Set("tea", []byte(`1`)))
	require.JSONEq(t, `{"a":1,"b":2}`, bot.state(t, room)["foreign"])
}

// An event whose content is no dictionary at all is an error for all its keys,
// and nothing is written upon it.
func TestMalformed(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	_, err := bot.SendStateEvent(t.Context(), room, memoryType, "", map[string]any{"tea": "green"})
	require.NoError(t, err)
	for name, content := range map[string]string{"text": `"text"`, "list": `[1]`, "null": `null`, "twice": `{"tea":"green","tea":"black"}`} {
		t.Run(name, func(t *testing.T) {
			front := proxy(t)
			// No homeserver sends this, and yet it must not cost what is stored.
			garble := func(w http.ResponseWriter, req *http.Request, server http.Handler) {
				homeserver.Corrupt(fmt.Sprintf(`[{"type":"m.room.member","state_key":%q,"event_id":"$1","sender":%[1]q,"content":{"membership":"join"}},`+
					`{"type":"dev.opsdroid.database","state_key":"","event_id":"$2","sender":%[1]q,"content":%s}]`, bot.UserID(), content))(w, req, server)
			}
			front.Inject(homeserver.Fault{Match: wholeState, Do: garble})
			conf := bot.config(room)
			conf.Homeserver, conf.Timeout = front.URL(), time.Second
			memory := matrix.New(conf, matrix.WithLogger(quiet(t)))
			if err := memory.Open(t.Context()); err == nil {
				r := rig{bot, memory, front, room, conf.Timeout}
				_, _, err = r.Get("tea")
				r.failed(t, err, "get", "tea")
				_, err = r.Keys()
				require.Error(t, err)
				r.failed(t, r.Set("coffee", []byte(`"secret"`)), "set", "coffee")
				_, err = r.Delete("tea")
				r.failed(t, err, "delete", "tea")
				require.Zero(t, r.writes())
			}
			require.NoError(t, memory.Close())
		})
	}
	require.JSONEq(t, `{"tea":"green"}`, bot.state(t, room)[""])
}
