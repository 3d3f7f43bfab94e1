//go:build goolm

package e2ee_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestValuesAreEncryptedAndSurviveARestart(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			bot, other := register(t), newPeer(t, register(t))
			room := bot.newRoom(t, other.account)
			conf := bot.config(t, room)
			conf.SingleStateKey = layout

			memory := open(t, conf)
			require.NoError(t, memory.Set("tea", []byte(`"green"`)))
			require.NoError(t, memory.Set("pi", []byte(`3.14`)))
			rig.Has(t, memory, "tea", `"green"`)
			device := memory.Client().DeviceID
			require.NoError(t, memory.Close())

			pointers := bot.pointers(t, room)
			require.Len(t, pointers, 2)
			evt := other.decrypt(t, room, pointers["tea"])
			require.Equal(t, rig.MemoryType.Type, evt.Type.Type)
			require.JSONEq(t, `{"tea":"green"}`, string(evt.Content.VeryRaw))

			memory = open(t, conf)
			require.Equal(t, device, memory.Client().DeviceID)
			rig.Has(t, memory, "tea", `"green"`)
			rig.Has(t, memory, "pi", `3.14`)
			was, err := memory.Delete("tea")
			require.NoError(t, err)
			require.True(t, was)
			keys, err := memory.Keys()
			require.NoError(t, err)
			require.Equal(t, []string{"pi"}, keys)
			require.NoError(t, memory.Set("tea", []byte(`"black"`)))
			rig.Has(t, memory, "tea", `"black"`)
		})
	}
}

func TestWithoutEncryptionNothingGoesOutInTheClear(t *testing.T) {
	bot := register(t)
	room := bot.newRoom(t)
	conf := bot.config(t, room)
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, memory.Close())

	plain := matrix.New(conf, matrix.WithLogger(rig.Log(t)))
	require.NoError(t, plain.Open(t.Context()))
	defer plain.Close()
	require.ErrorIs(t, plain.Set("coffee", []byte(`"black"`)), matrix.ErrNoEncryption)
	_, _, err := plain.Get("tea")
	require.ErrorIs(t, err, matrix.ErrNoEncryption)
	keys, err := plain.Keys()
	require.NoError(t, err)
	require.Equal(t, []string{"tea"}, keys)
}
