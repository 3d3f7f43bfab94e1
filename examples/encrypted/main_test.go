//go:build goolm

package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The homeserver never sees the value, and a new device restores it.
func TestShowsAndRestores(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitOK, run(t.Context(), nil, &stdout, &stderr), "%s", &stderr)
	seen, restored, found := strings.Cut(stdout.String(), "\n3. ")
	require.True(t, found, "%s", &stdout)
	require.Contains(t, seen, `"door code"`)
	require.Contains(t, seen, `"encrypted_val"`)
	require.Contains(t, seen, `"ciphertext"`)
	require.NotContains(t, seen, `"4711"`) // with its quotes, which no ciphertext has
	require.Contains(t, restored, `the door code is "4711".`)
}

// An interruption is no failure, and no server's log is thrown at who made it.
func TestInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var stdout bytes.Buffer
	stderr := interrupting{interrupt: interrupt}
	require.Equal(t, exitInterrupted, run(ctx, nil, &stdout, &stderr))
	require.Empty(t, stdout.String())
	require.True(t, strings.HasSuffix(stderr.String(), "\ninterrupted\n"), "%s", &stderr)
	require.Equal(t, 2, strings.Count(stderr.String(), "\n"), "%s", &stderr)
}

// interrupting is an output that interrupts the program when its homeserver starts.
type interrupting struct {
	bytes.Buffer
	interrupt func()
}

func (w *interrupting) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("starting the homeserver")) {
		w.Reset() // it may have been built before
		w.interrupt()
	}
	return w.Buffer.Write(p)
}

func TestUsage(t *testing.T) {
	for args, code := range map[string]int{"-h": exitOK, "-nonsense": exitUsage, "argument": exitUsage} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, code, run(t.Context(), []string{args}, &stdout, &stderr))
		require.NotEmpty(t, stderr.String())
		require.Empty(t, stdout.String())
	}
}
