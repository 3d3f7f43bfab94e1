package test

import (
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/memorytest"
)

// Every layout passes the suite that any joe.Memory has to pass, with a journal as well, and
// then with a homeserver that is away once the memory was opened for the first time.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.Layouts {
		for with, c := range map[string]conformance{
			"":                    {},
			", journal":           {journal: true},
			", journal, off line": {journal: true, offline: true},
		} {
			t.Run(name+with, func(t *testing.T) {
				t.Parallel()
				c.bot, c.layout = rig.Register(t), layout
				memorytest.Run(t, c.open(make(map[string]matrix.Config)))
			})
		}
	}
}

// A conformance says how the memories of a suite are opened.
type conformance struct {
	bot              rig.Account
	layout           matrix.StateKey
	journal, offline bool
}

// open opens a memory for memorytest. What was opened before is opened with the same settings.
func (c conformance) open(opened map[string]matrix.Config) func(t *testing.T) joe.Memory {
	return func(t *testing.T) joe.Memory {
		conf, again := opened[t.Name()]
		if !again {
			conf = c.bot.Config(c.bot.NewRoom(t))
			conf.SingleStateKey = c.layout
			if c.journal {
				conf.Journal = rig.Journal(t)
			}
		}
		if c.offline && !again { // only for the first time is a homeserver needed
			memory := rig.Open(t, conf)
			if err := memory.Close(); err != nil {
				t.Fatal(err)
			}
			front := rig.Proxy(t)
			rig.Offline(front)
			conf.Homeserver = front.URL()
		}
		opened[t.Name()] = conf
		memory := matrix.New(conf, matrix.WithLogger(rig.Log(t)))
		if err := memory.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c.journal {
			require.FileExists(t, conf.Journal)
		}
		return memory
	}
}
