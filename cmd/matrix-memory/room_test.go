package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFailuresAreCutOff: of many keys the first are named.
func TestFailuresAreCutOff(t *testing.T) {
	failed := make(map[string]error)
	for i := range failuresNamed {
		failed[fmt.Sprintf("key%02d", i)] = errors.New("no")
	}
	require.NotContains(t, failures(failed, "failed").Error(), "more")
	for i := range 5 {
		failed[fmt.Sprintf("later%d", i)] = errors.New("no")
	}
	lines := strings.Split(failures(failed, "failed").Error(), "\n")
	require.Equal(t, "25 keys failed:", lines[0])
	require.Len(t, lines, 1+failuresNamed+1)
	require.Equal(t, "and 5 more", lines[len(lines)-1])
}
