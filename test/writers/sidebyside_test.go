package writers

import (
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// What a program as opsdroid does to keys that the memory has only just set counts, as it
// has seen what it changed; also where the memory writes at the same moment and has not
// heard of that yet, and where a key gets back the value that it had before.
func TestOpsdroidChangesWhatWasJustSet(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			all := rig.Crowd(t, rig.Shared(t), 2, layout)
			other := rig.NewOpsdroid(t, rig.Shared(t), all[0], layout)
			want := make(map[string]string)
			set := func(r rig.Proxied, key, value string) error {
				want[key] = value
				return r.Set(key, []byte(value))
			}
			for i, r := range all {
				for _, key := range []string{"deleted", "changed back", "kept"} {
					require.NoError(t, set(r, key, `1`))
				}
				require.NoError(t, set(r, "changed back", `2`))
				rig.Settle(t, want, 0, all...)
				require.NoError(t, rig.Overtaken(t, r, func() error { return set(r, fmt.Sprint("more ", i), `1`) }, func() {
					require.NoError(t, other.Delete(t.Context(), "deleted"))
					require.NoError(t, other.Put(t.Context(), "changed back", `1`))
				}))
				delete(want, "deleted")
				want["changed back"] = `1`
				rig.Settle(t, want, rig.Lasting, all...)
				require.NoError(t, set(r, "kept", `2`), "which writes the dictionary once more")
				rig.Settle(t, want, rig.Lasting, all...)
			}
		})
	}
}

// What a program as opsdroid writes back after the memory has written takes away what it
// had not read. That is put back, and what it did itself stays.
func TestOpsdroidWritesBackWhatIsOutOfDate(t *testing.T) {
	for _, layout := range []matrix.StateKey{matrix.OneStateKey, "my.key"} {
		for name, change := range map[string]struct {
			do   func(rig.Dictionary)
			want map[string]string
		}{
			"set": {
				func(read rig.Dictionary) { read["theirs"] = []byte(`1`) },
				map[string]string{"start": `1`, "old": `2`, "new": `1`, "theirs": `1`},
			},
			"delete": {
				func(read rig.Dictionary) { delete(read, "start") },
				map[string]string{"old": `2`, "new": `1`},
			},
			"nothing": {func(rig.Dictionary) {}, map[string]string{"start": `1`, "old": `2`, "new": `1`}},
		} {
			t.Run(fmt.Sprintf("%s %q", name, layout), func(t *testing.T) {
				r := rig.Crowd(t, rig.Shared(t), 1, layout)[0]
				other := rig.NewOpsdroid(t, rig.Shared(t), r, layout)
				for _, key := range []string{"start", "old", "gone"} {
					require.NoError(t, r.Set(key, []byte(`1`)))
				}
				r.InStep(t)
				read, err := other.Read(t.Context(), "")
				require.NoError(t, err)
				require.NoError(t, r.Set("old", []byte(`2`)))
				require.NoError(t, r.Set("new", []byte(`1`)))
				_, err = r.Delete("gone")
				require.NoError(t, err)
				change.do(read)
				require.NoError(t, other.Write(t.Context(), "", read))
				rig.Settle(t, change.want, rig.Lasting, r)
			})
		}
	}
}

// A program as opsdroid sets and deletes keys of its own as fast as it can while two
// memories set theirs. What was acknowledged to the memories stays.
func TestOpsdroidWritesWhileMemoriesWrite(t *testing.T) {
	const keys = 30
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			all := rig.Crowd(t, rig.Shared(t), 2, layout)
			other := rig.NewOpsdroid(t, rig.Shared(t), all[0], layout)
			want := map[string]string{"start": `1`}
			require.NoError(t, all[0].Set("start", []byte(`1`))) // so that it finds when keys were changed
			stop, stopped := make(chan struct{}), make(chan error, 1)
			go func() { stopped <- restless(t, other, stop) }()
			for k := range keys {
				for i := range all {
					want[fmt.Sprint(i, "-", k)] = fmt.Sprint(k)
				}
			}
			rig.AtOnce(t, all, func(i int, r rig.Proxied) error {
				for k := range keys {
					if err := r.Set(fmt.Sprint(i, "-", k), fmt.Append(nil, k)); err != nil {
						return err
					}
				}
				return nil
			})
			close(stop)
			require.NoError(t, <-stopped)
			rig.SettleBut(t, want, []string{"theirs", "fleeting"}, rig.Lasting, all...)
			require.NoError(t, other.Put(t.Context(), "theirs", `"last"`))
			require.NoError(t, other.Delete(t.Context(), "fleeting"))
			want["theirs"] = `"last"`
			rig.Settle(t, want, rig.Lasting, all...)
		})
	}
}

// restless sets and deletes keys of its own until it is stopped.
func restless(t testing.TB, o rig.Opsdroid, stop <-chan struct{}) error {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := o.Put(t.Context(), "theirs", fmt.Sprint(n)); err != nil {
			return err
		}
		if err := o.Put(t.Context(), "fleeting", fmt.Sprint(n)); err != nil {
			return err
		}
		if err := o.Delete(t.Context(), "fleeting"); err != nil {
			return err
		}
	}
}

// What somebody by hand puts in a dictionary's place, without its member, is a change of what
// stood there, also where the memory was opened just before and where it is opened just after.
func TestAPersonChangesADictionaryAroundAStart(t *testing.T) {
	t.Parallel()
	for _, layout := range []matrix.StateKey{matrix.OneStateKey, "my.key"} {
		for name, openedBefore := range map[string]bool{"before": true, "after": false} {
			t.Run(string(layout)+"/opened "+name, func(t *testing.T) {
				bot := rig.Register(t)
				room := bot.NewRoom(t)
				conf := bot.Config(room)
				conf.SingleStateKey = layout
				memory := rig.Open(t, conf)
				for i := range 25 { // more than are read at a start
					require.NoError(t, memory.Set("count", fmt.Append(nil, i)))
				}
				require.NoError(t, memory.Close())
				put := func() { bot.Put(t, room, string(layout), map[string]int{"count": 7, "theirs": 1}) }
				if !openedBefore {
					put()
				}
				memory = rig.Open(t, conf)
				if openedBefore {
					put()
				}
				want := map[string]string{"count": `7`, "theirs": `1`}
				agree := func() bool {
					return maps.Equal(want, rig.Entries(t, memory)) && maps.Equal(want, bot.Entries(t, room))
				}
				eventually(t, agree, "what the person put counts")
				want["ours"] = `1`
				require.NoError(t, memory.Set("ours", []byte(`1`)))
				require.NoError(t, memory.Close())
				memory = rig.Open(t, conf)
				require.True(t, agree())
			})
		}
	}
}
