package test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A homeserver that refuses a sync token refuses it for good. The memory begins anew,
// and hears of what others have written meanwhile and write later.
func TestSyncTokenRefused(t *testing.T) {
	for name, body := range map[string]string{
		"unknown position": `{"errcode":"M_UNKNOWN_POS","error":"Unknown position"}`,
		"bad token":        `{"errcode":"M_UNKNOWN","error":"Invalid stream token"}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := rig.Crowd(t, rig.Shared(t), 1, matrix.OneStateKey)[0]
			other := rig.NewOpsdroid(t, rig.Shared(t), r, matrix.OneStateKey)
			require.NoError(t, r.Set("tea", []byte(`"green"`)))
			r.InStep(t)
			refused := rig.RefuseToken(r.Front, homeserver.Status(http.StatusBadRequest, nil, body))
			r.News(t, 1) // ends the sync under way
			eventually(t, refused, "the token is refused")
			require.NoError(t, other.Put(t.Context(), "theirs", `1`))
			want := map[string]string{"tea": `"green"`, "theirs": `1`}
			rig.Settle(t, want, 0, r)
			require.NoError(t, other.Put(t.Context(), "more", `1`))
			require.NoError(t, r.Set("ours", []byte(`1`)))
			want["more"], want["ours"] = `1`, `1`
			rig.Settle(t, want, rig.Lasting, r)
		})
	}
}

// The homeserver is restored from a backup while the memory runs, and has forgotten what
// it had acknowledged, perhaps all of it. The memory has not. It puts that back, overwrites
// nothing that others have written since, and goes on hearing of them.
func TestHomeserverRestored(t *testing.T) {
	t.Parallel()
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) { restored(t, layout, false) })
		t.Run(name+"/to an empty room", func(t *testing.T) { restored(t, layout, true) })
	}
}

func restored(t *testing.T, layout matrix.StateKey, empty bool) {
	own := rig.Own(t)
	log, kept := rig.KeepLog()
	r := rig.Crowd(t, own, 1, layout, matrix.WithLogger(log))[0]
	other := rig.NewOpsdroid(t, own, r, layout)
	want := make(map[string]string)
	set := func(key, value string) {
		t.Helper()
		require.NoError(t, r.Set(key, []byte(value)))
		want[key] = value
	}
	var restore func()
	if empty {
		restore = own.Backup(t)
	}
	set("before", `1`)
	set("changed", `1`)
	set("deleted", `1`)
	r.InStep(t)
	if !empty {
		restore = own.Backup(t)
	}
	for _, key := range []string{"one", "two", "three"} {
		set(key, `1`)
	}
	set("changed", `2`)
	_, err := r.Delete("deleted")
	require.NoError(t, err)
	delete(want, "deleted")
	rig.Settle(t, want, 0, r)

	restore()
	require.NoError(t, other.Put(t.Context(), "theirs", `1`))
	want["theirs"] = `1`
	set("after", `1`)
	rig.Settle(t, want, rig.Lasting, r)
	require.NoError(t, other.Put(t.Context(), "theirs", `2`))
	require.NoError(t, other.Put(t.Context(), "more", `1`))
	want["theirs"], want["more"] = `2`, `1`
	rig.Settle(t, want, rig.Lasting, r)
	gone := kept.Lines("level=warning", "gone back") // unless what others wrote since stands there before it is noticed
	require.LessOrEqual(t, len(gone), 1)
	require.Equal(t, gone, kept.Lines("level=warning", "restored from a backup"))
}
