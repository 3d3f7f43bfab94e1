package test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// What others changed is on disk soon, also while the bot goes on: what a kill leaves is the
// file as it is then.
func TestWhatOthersChangedIsKept(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bot, others := neighbours(t, layout)
			conf := journalled(t, rig.Proxy(t), bot, others.Room, layout)
			memory := rig.Open(t, conf)
			require.NoError(t, memory.Set("tea", []byte(`1`)))
			rig.Flush(t, memory, delivering)
			require.NoError(t, others.Put(t.Context(), "sugar", `2`))

			front := rig.Proxy(t)
			offline(front)
			quiet, _ := rig.KeepLog()
			killed := conf
			killed.Homeserver, killed.Journal = front.URL(), rig.Journal(t)
			delivers(t, func() bool {
				file, err := os.ReadFile(conf.Journal)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(killed.Journal, file, 0o600))
				again := matrix.New(killed, matrix.WithLogger(quiet))
				if again.Open(t.Context()) != nil { // it was written just then
					return false
				}
				defer again.Close()
				_, there, err := again.Get("sugar")
				return err == nil && there
			}, "a start from the file knows what others changed")
		})
	}
}
