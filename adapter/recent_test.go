package adapter

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRecent(t *testing.T) {
	var seen recent[int]
	require.True(t, seen.empty())
	for i := range 60 {
		seen.keep(-i)
	}
	require.False(t, seen.empty())
	for i := 1; i <= 3*remembered; i++ {
		seen.add(i)
		seen.add(i)
		seen.add(0) // which is kept
	}
	for i := range 60 {
		require.True(t, seen.has(-i), "%d", i)
	}
	for i := 1; i <= 3*remembered; i++ {
		require.Equal(t, i > 2*remembered, seen.has(i), "%d", i)
	}
	require.Len(t, seen.ids, remembered+60)
}
