package replica

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// What a key held is forgotten in time, also if the echo of its write was lost in a
// gap of sync; a memory that goes on taking new keys does not grow by that.
func TestPastIsForgotten(t *testing.T) {
	for name, gap := range map[string]bool{"every echo comes": false, "most are lost in gaps": true} {
		t.Run(name, func(t *testing.T) {
			room := New(wire.Layout{})
			room.Expect()
			room.Restore(nil, nil)
			const writes = 200
			for i := range writes {
				base, err := room.Begin("")
				require.NoError(t, err)
				changes := map[string]json.RawMessage{fmt.Sprint("new", i): json.RawMessage("1"), fmt.Sprint("new", i-1): nil}
				content := base.With(changes)
				id := fmt.Sprint("$", i)
				room.Commit("", id, content, []string{fmt.Sprint("new", i), fmt.Sprint("new", i-1)})
				if !gap || i%10 == 9 {
					room.Apply(Event{ID: id, Content: content.Content(), Time: int64(i) * maxLag, Gap: gap})
				}
			}
			require.Empty(t, room.Todo())
			require.Less(t, len(room.docs[""].mine), 25, "of %d keys", writes)
		})
	}
}
