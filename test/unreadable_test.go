package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// What this version can't read is an error, is not overwritten, and survives
// writes to other keys.
func TestUnreadable(t *testing.T) {
	bot := rig.Register(t)
	room := bot.NewRoom(t)
	const foreign = `"dev.joe.key:!!":1,"future":{"dev.joe.future":"x"},"pointer":{"encrypted_val":7},"torn":{"dev.joe.bytes":"%"}`
	bot.Put(t, room, "", json.RawMessage(`{`+foreign+`,"tea":"green"}`))
	front := rig.Proxy(t)
	conf := bot.Config(room)
	r := rig.Behind(t, front, bot, conf)
	for _, key := range []string{"future", "pointer", "torn"} {
		_, _, err := r.Get(key)
		r.Failed(t, err, "get", key)
		err = r.Set(key, []byte(`"secret"`))
		r.Failed(t, err, "set", key)
		require.ErrorIs(t, err, commit.ErrUnreadable)
	}
	require.Zero(t, r.Writes())
	keys, err := r.Keys()
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"dev.joe.key:!!", "future", "pointer", "torn", "tea"}, keys)
	require.NoError(t, r.Set("tea", []byte(`"black"`)))
	require.JSONEq(t, `{`+foreign+`,"tea":"black"}`, bot.Standing(t, room)[""])
	was, err := r.Delete("future")
	require.NoError(t, err)
	require.True(t, was)
	require.NoError(t, r.Set("future", []byte(`1`)))
	rig.Has(t, r.Memory, "future", `1`)

	// With a state event for each key, what does not belong to the memory is in
	// the way of its own key only.
	bot.Put(t, room, "foreign", json.RawMessage(`{"a":1,"b":2}`))
	conf.SingleStateKey = matrix.PerKey
	r = rig.Behind(t, front, bot, conf)
	front.Reset()
	r.Failed(t, r.Set("foreign", []byte(`"secret"`)), "set", "foreign")
	was, err = r.Delete("foreign")
	require.NoError(t, err)
	require.False(t, was, "no key of the memory's stands there")
	require.Zero(t, r.Writes())
	require.NoError(t, r.Set("tea", []byte(`1`)))
	require.JSONEq(t, `{"a":1,"b":2}`, bot.Standing(t, room)["foreign"])
}

// An event whose content is no dictionary at all is an error for all its keys,
// and nothing is written upon it.
func TestMalformed(t *testing.T) {
	bot := rig.Register(t)
	room := bot.NewRoom(t)
	bot.Put(t, room, "", map[string]any{"tea": "green"})
	for name, content := range map[string]string{"text": `"text"`, "list": `[1]`, "null": `null`, "twice": `{"tea":"green","tea":"black"}`} {
		t.Run(name, func(t *testing.T) {
			front := rig.Proxy(t)
			// No homeserver sends this, and yet it must not cost what is stored.
			garble := func(w http.ResponseWriter, req *http.Request, server http.Handler) {
				homeserver.Corrupt(fmt.Sprintf(`[{"type":"m.room.member","state_key":%q,"event_id":"$1","sender":%[1]q,"content":{"membership":"join"}},`+
					`{"type":"dev.opsdroid.database","state_key":"","event_id":"$2","sender":%[1]q,"content":%s}]`, bot.UserID, content))(w, req, server)
			}
			front.Inject(homeserver.Fault{Match: rig.Load, Do: garble})
			conf := bot.Config(room)
			conf.Homeserver, conf.Timeout = front.URL(), time.Second
			memory := matrix.New(conf, matrix.WithLogger(rig.Log(t)))
			if err := memory.Open(t.Context()); err == nil {
				r := rig.Proxied{Account: bot, Memory: memory, Front: front, Room: room}
				_, _, err = r.Get("tea")
				r.Failed(t, err, "get", "tea")
				_, err = r.Keys()
				require.Error(t, err)
				r.Failed(t, r.Set("coffee", []byte(`"secret"`)), "set", "coffee")
				_, err = r.Delete("tea")
				r.Failed(t, err, "delete", "tea")
				require.Zero(t, r.Writes())
			}
			require.NoError(t, memory.Close())
		})
	}
	require.JSONEq(t, `{"tea":"green"}`, bot.Standing(t, room)[""])
}
