package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConversation(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitOK, run([]string{"-once"}, &stdout, &stderr), "%s", &stderr)
	for _, line := range []string{
		"kitchen    bot    _the best tool_ is **the whisk**.",
		"workshop   bot    _the best tool_ is **the hammer**.",
		"kitchen    bot    Nobody told me in this room what _lunch_ is.",
		`kitchen    state key "": {"the best tool":"the whisk"}`,
		`workshop   state key "": {"lunch":"at noon","the best tool":"the hammer"}`,
		"default    none",
	} {
		require.Contains(t, stdout.String(), line)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-nonsense"}, {"argument"}, {"-once", "-config", "x"}} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, exitUsage, run(args, &stdout, &stderr))
		require.NotEmpty(t, stderr.String())
	}
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitFailed, run([]string{"-config", "no-such-file"}, &stdout, &stderr))
	require.Contains(t, stderr.String(), "no-such-file")
}
