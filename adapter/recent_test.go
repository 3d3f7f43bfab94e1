package adapter

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

func TestRecent(t *testing.T) {
	of := func(name string, i int) *event.Event { return &event.Event{ID: id.EventID(fmt.Sprint("$", name, i))} }
	var seen recent
	require.True(t, seen.empty())
	for i := range 60 {
		seen.keep(of("kept", i))
	}
	require.False(t, seen.empty())
	for i := range 3 * remembered {
		seen.add(of("added", i), of("added", i), of("kept", 0))
	}
	for i := range 60 {
		require.True(t, seen.has(of("kept", i).ID), "%d", i)
	}
	for i := range 3 * remembered {
		require.Equal(t, i >= 2*remembered, seen.has(of("added", i).ID), "%d", i)
	}
	require.Len(t, seen.ids, remembered+60)
}
