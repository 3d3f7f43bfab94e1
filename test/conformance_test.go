package test

import (
	"testing"

	"github.com/go-joe/joe"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/memorytest"
)

// Every layout passes the suite that any joe.Memory has to pass.
func TestConformance(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			bot := rig.Register(t)
			rooms := make(map[string]id.RoomID)
			memorytest.Run(t, func(t *testing.T) joe.Memory {
				room, ok := rooms[t.Name()]
				if !ok {
					room = bot.NewRoom(t)
					rooms[t.Name()] = room
				}
				conf := bot.Config(room)
				conf.SingleStateKey = layout
				memory := matrix.New(conf, matrix.WithLogger(rig.Log(t)))
				if err := memory.Open(t.Context()); err != nil {
					t.Fatal(err)
				}
				return memory
			})
		})
	}
}
