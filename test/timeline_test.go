package test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// What others write shows up, also after more changes than one sync carries.
func TestOtherWriters(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			bot := rig.Register(t)
			room := bot.NewRoom(t)
			conf := bot.Config(room)
			conf.SingleStateKey = layout
			memory := rig.Open(t, conf)
			require.NoError(t, memory.Set("ours", []byte(`1`)))
			stateKey := func(key string) string {
				switch layout {
				case matrix.OneStateKey, "my.key":
					return string(layout)
				}
				return key
			}
			write := func(key string, content map[string]any) {
				bot.Put(t, room, stateKey(key), content)
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

// What the homeserver could not be asked for shows later, without a write.
func TestReadsAgainWhatItCouldNotRead(t *testing.T) {
	bot := rig.Register(t)
	front := rig.Proxy(t)
	room := bot.NewRoom(t)
	front.Inject(homeserver.Fault{Match: rig.FollowUp, Do: homeserver.BlackHole()}) // else sync tells
	r := rig.Behind(t, front, bot, bot.Config(room))
	front.Inject(homeserver.Fault{Match: rig.StateRead, Times: 1, Do: homeserver.RateLimit(time.Minute)})
	unknown(front, homeserver.ResetAfter())
	require.ErrorIs(t, r.Set("k", []byte(`"new"`)), matrix.ErrUnknownOutcome)
	eventually(t, func() bool { return len(r.Seen(rig.StateRead)) > 0 }, "it is asked for")
	eventually(t, func() bool {
		value, _, err := r.Get("k")
		return err == nil && string(value) == `"new"`
	}, "the new value")
}
