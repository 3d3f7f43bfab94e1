package test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestReadsOfALoadedRoomMakeNoRequest(t *testing.T) {
	for name, stateKey := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			bot := rig.Register(t)
			conf := bot.Config(bot.NewRoom(t))
			conf.SingleStateKey = stateKey
			before := rig.Open(t, conf)
			require.NoError(t, before.Set("tea", []byte(`"green"`)))
			require.NoError(t, before.Set("milk", []byte(`"none"`)))

			memory, store, requests := counted(t, conf)
			handle := memory.InRoom("main")
			for range 3 {
				value, ok, err := memory.Get("tea")
				require.NoError(t, err)
				require.True(t, ok)
				require.Equal(t, `"green"`, string(value))
				_, ok, err = memory.Get("coffee")
				require.NoError(t, err)
				require.False(t, ok)
				for _, reader := range []interface {
					Get(string, interface{}) (bool, error)
					Keys() ([]string, error)
				}{store, handle} {
					var text string
					ok, err = reader.Get("milk", &text)
					require.NoError(t, err)
					require.True(t, ok)
					require.Equal(t, "none", text)
					keys, err := reader.Keys()
					require.NoError(t, err)
					require.ElementsMatch(t, []string{"tea", "milk"}, keys)
				}
			}
			require.Empty(t, requests())
		})
	}
}
