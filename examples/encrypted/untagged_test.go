//go:build !goolm

package main

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// Without the tag the program says at once how it is run.
func TestSaysHowToBuild(t *testing.T) {
	if os.Getenv("ENCRYPTED_RUN") != "" {
		main()
	}
	program := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSaysHowToBuild$")
	program.Env = append(os.Environ(), "ENCRYPTED_RUN=1")
	output, err := program.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, 2, program.ProcessState.ExitCode())
	require.Contains(t, string(output), "go run -tags goolm ./examples/encrypted")
	require.NotContains(t, string(output), "homeserver")
}
