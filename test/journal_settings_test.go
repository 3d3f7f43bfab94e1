package test

import (
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A bot gets another event type, or another layout, which is another memory in the same room.
// What the journal knows of the one before is not taken for what the new one holds, neither
// without a connection nor later; what was acknowledged and waits goes to the new one.
func TestJournalOfAnotherMemoryInTheRoom(t *testing.T) {
	for name, change := range map[string]func(*matrix.Config){
		"event type": func(c *matrix.Config) { c.EventType = "org.example.memory" },
		"state key":  func(c *matrix.Config) { c.SingleStateKey = "another" },
		"per key":    func(c *matrix.Config) { c.SingleStateKey = matrix.PerKey },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front, bot := rig.Proxy(t), rig.Register(t)
			home, other := bot.NewRoom(t), bot.NewRoom(t)
			conf := rig.Journalled(t, front, bot, home, matrix.OneStateKey)
			memory := rig.Open(t, conf)
			require.NoError(t, memory.Set("tea", []byte(`"green"`)))
			require.NoError(t, memory.InRoom(other.String()).Set("tea", "green"))
			rig.Flush(t, memory, rig.Delivering)
			require.NoError(t, memory.Close())
			online := rig.Offline(front)
			memory = rig.Open(t, conf)
			require.NoError(t, memory.Set("milk", []byte(`1`)))
			require.NoError(t, memory.Close())

			change(&conf)
			require.ErrorContains(t, rig.Refused(t, conf), "the homeserver could not be reached", "nothing is known of that memory")
			online()
			memory = rig.Open(t, conf)
			rig.Flush(t, memory, rig.Delivering)
			require.Equal(t, map[string]string{"milk": `1`}, rig.Entries(t, memory))
			keys, err := memory.InRoom(other.String()).Keys()
			require.NoError(t, err)
			require.Empty(t, keys)
			require.NoError(t, memory.Close())
			require.Equal(t, `{"tea":"green"}`, bot.Standing(t, other)[""])
		})
	}
}
