package matrix_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
)

func TestMemoryRemembers(t *testing.T) {
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			bot := register(t)
			room := bot.newRoom(t)
			conf := bot.config(room)
			conf.SingleStateKey = layout

			memory := matrix.New(conf, matrix.WithLogger(quiet(t)))
			require.NoError(t, memory.Open(t.Context()))
			require.NoError(t, memory.Set("tea", []byte(`"green"`)))
			require.NoError(t, memory.Set("pi", []byte(`3.14`)))
			value, ok, err := memory.Get("tea")
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, `"green"`, string(value))
			require.NoError(t, memory.Close())

			memory = open(t, conf)
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
