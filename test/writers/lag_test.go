package writers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A memory that has not heard of another's keys writes a dictionary without them. That
// is no delete, however late its sync is, and whatever its homeserver's clock says.
func TestWhatWasNotHeardOfIsNotDeleted(t *testing.T) {
	for name, ahead := range map[string]time.Duration{
		"clocks agree": 0, "its clock is ahead": time.Minute, "its clock is behind": -time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			all := rig.Crowd(t, rig.Shared(t), 2, matrix.OneStateKey)
			here, there := all[0], all[1]
			require.NoError(t, here.Set("start", []byte(`1`)))
			rig.Settle(t, map[string]string{"start": `1`}, 0, all...)
			restore := there.LoseSync(t)
			for _, r := range all {
				r.Front.Inject(homeserver.Fault{Match: isRead, Do: clock(there.Memory.Client().UserID, ahead)})
			}
			require.NoError(t, here.Set("here 1", []byte(`1`)))
			here.InStep(t)
			require.NoError(t, rig.Overtaken(t, here, func() error { return here.Set("here 2", []byte(`1`)) }, func() {
				require.NoError(t, there.Set("there", []byte(`1`)))
			}))
			here.InStep(t)
			restore()
			rig.Settle(t, map[string]string{"start": `1`, "here 1": `1`, "here 2": `1`, "there": `1`}, rig.Lasting, all...)
		})
	}
}

// isRead matches what asks for events.
func isRead(r *http.Request) bool { return r.Method == http.MethodGet }

// clock edits answers as if an account were on another homeserver, whose clock is ahead.
func clock(of id.UserID, ahead time.Duration) homeserver.Action {
	var visit func(any)
	visit = func(part any) {
		switch part := part.(type) {
		case []any:
			for _, item := range part {
				visit(item)
			}
		case map[string]any:
			if sent, ok := part["origin_server_ts"].(json.Number); ok && part["sender"] == of.String() {
				ms, _ := sent.Int64()
				part["origin_server_ts"] = json.Number(fmt.Sprint(ms + ahead.Milliseconds()))
			}
			for _, item := range part {
				visit(item)
			}
		}
	}
	return homeserver.Edit(visit)
}
