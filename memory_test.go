package matrix_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestMemoryRemembers(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			rig.NoLeaks(t)
			bot := rig.Register(t)
			room := bot.NewRoom(t)
			conf := bot.Config(room)
			conf.SingleStateKey = layout

			memory := rig.Open(t, conf)
			require.NoError(t, memory.Set("tea", []byte(`"green"`)))
			require.NoError(t, memory.Set("pi", []byte(`3.14`)))
			value, ok, err := memory.Get("tea")
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, `"green"`, string(value))
			require.NoError(t, memory.Close())

			memory = rig.Open(t, conf)
			value, ok, err = memory.Get("pi")
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, `3.14`, string(value))
			was, err := memory.Delete("tea")
			require.NoError(t, err)
			require.True(t, was)
			keys, err := memory.Keys()
			require.NoError(t, err)
			require.Equal(t, []string{"pi"}, keys)
		})
	}
}

func TestInRoom(t *testing.T) {
	bot := rig.Register(t)
	home, ops := bot.NewRoom(t), bot.NewRoom(t)
	alias := bot.NewAlias(t, ops).String()
	conf := bot.Config(home)
	conf.Rooms["ops"] = alias
	memory := rig.Open(t, conf)

	require.NoError(t, memory.InRoom("ops").Set("deploys", 3))
	for _, name := range []string{"ops", alias, ops.String()} {
		var deploys int
		ok, err := memory.InRoom(name).Get("deploys", &deploys)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, 3, deploys)
	}
	ok, err := memory.InRoom("ops").Get("deploys", nil)
	require.NoError(t, err)
	require.True(t, ok)
	_, ok, err = memory.Get("deploys")
	require.NoError(t, err)
	require.False(t, ok, "the default room has nothing of it")

	require.NoError(t, memory.InRoom("ops").Set("other", "x"))
	n, err := memory.InRoom("ops").DeleteAll("deploys", "missing", "other")
	require.NoError(t, err)
	require.Equal(t, 2, n)
	keys, err := memory.InRoom("ops").Keys()
	require.NoError(t, err)
	require.Empty(t, keys)

	var number int
	require.NoError(t, memory.InRoom("ops").Set("text", "no number"))
	_, err = memory.InRoom("ops").Get("text", &number)
	require.ErrorContains(t, err, "decoding the value into a *int")
	err = memory.InRoom("ops").Set("channel", make(chan int))
	require.ErrorContains(t, err, "encoding the value")

	for _, name := range []string{"nowhere", "#nowhere:localhost", "!nowhere:localhost", ""} {
		err := memory.InRoom(name).Set("key", 1)
		require.Error(t, err, name)
		var failure *matrix.Error
		require.ErrorAs(t, err, &failure)
		require.Equal(t, "key", failure.Key)
		if name != "!nowhere:localhost" { // there, the server says no more than that it is forbidden
			require.ErrorIs(t, err, matrix.ErrUnknownRoom, name)
		}
	}
}
