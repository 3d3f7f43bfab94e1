package test

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// What others changed is on disk soon, also while the bot goes on: what a kill leaves is the
// file as it is then.
func TestWhatOthersChangedIsKept(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bot, others := neighbours(t, layout)
			conf := rig.Journalled(t, rig.Proxy(t), bot, others.Room, layout)
			memory := rig.Open(t, conf)
			require.NoError(t, memory.Set("tea", []byte(`1`)))
			rig.Flush(t, memory, rig.Delivering)
			require.NoError(t, others.Put(t.Context(), "sugar", `2`))

			front := rig.Proxy(t)
			rig.Offline(front)
			quiet, _ := rig.KeepLog()
			killed := conf
			killed.Homeserver, killed.Journal = front.URL(), rig.Journal(t)
			rig.Delivers(t, func() bool {
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

// Sync may bring what others changed before the room is read again after a start. Then that
// counts, and is not taken for older than what the journal knows. These others put just
// their values, so that only what their events replaced tells how late they are.
func TestOthersAreHeardBeforeTheRoomIsRead(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front, others, conf, memory := besideOthers(t, layout)
			for _, value := range []string{`"older"`, `"ours"`} {
				require.NoError(t, memory.Set("tea", []byte(value)))
				rig.Flush(t, memory, rig.Delivering)
			}
			require.NoError(t, memory.Close())

			reached, release := make(chan struct{}), make(chan struct{})
			history := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/messages") }
			front.Inject(homeserver.Fault{Match: history, Times: 1, Do: homeserver.PauseBefore(reached, release)})
			memory = rig.Open(t, conf)
			<-reached // sync has begun
			if layout == matrix.PerKey {
				others.Account.Put(t, others.Room, "tea", map[string]string{"tea": "theirs"})
				others.Account.Put(t, others.Room, "sugar", map[string]string{"sugar": "1"})
			} else {
				others.Account.Put(t, others.Room, string(layout), map[string]string{"tea": "theirs"})
				others.Account.Put(t, others.Room, string(layout), map[string]string{"tea": "theirs", "sugar": "1"})
			}
			eventually(t, func() bool { _, there, err := memory.Get("sugar"); return err == nil && there }, "sync brings it")
			close(release)
			eventually(t, func() bool { value, _, err := memory.Get("tea"); return err == nil && string(value) == theirs }, "what others changed counts")
			require.NoError(t, memory.Set("milk", []byte(`2`)))
			rig.Flush(t, memory, rig.Delivering)
			want := map[string]string{"tea": theirs, "sugar": `"1"`, "milk": `2`}
			require.Equal(t, want, others.Entries(t, others.Room))
			require.Equal(t, want, rig.Entries(t, memory))
		})
	}
}
