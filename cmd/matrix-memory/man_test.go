package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the manual page anew")

// The manual page matrix-memory.1 is what the tool prints.
func TestManualPageIsCurrent(t *testing.T) {
	var page bytes.Buffer
	require.NoError(t, newApp(nil, &page, io.Discard).Run(t.Context(), []string{"matrix-memory", "man"}))
	if *update {
		require.NoError(t, os.WriteFile("matrix-memory.1", page.Bytes(), 0o644))
	}
	stands, err := os.ReadFile("matrix-memory.1")
	require.NoError(t, err)
	require.Equal(t, string(stands), page.String(), "run go test -run TestManualPageIsCurrent . -update")
}

// Options have one dash, in every help.
func TestHelpHasOneDash(t *testing.T) {
	for _, args := range [][]string{{"-help"}, {"get", "-help"}, {"status", "-h"}} {
		var help bytes.Buffer
		require.NoError(t, newApp(nil, &help, io.Discard).Run(t.Context(), append([]string{"matrix-memory"}, args...)))
		require.Contains(t, help.String(), " -config FILE")
		require.NotContains(t, help.String(), "--")
	}
}
