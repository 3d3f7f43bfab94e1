package rig

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// A Server is a homeserver for tests.
type Server struct{ *homeserver.Server }

// shared is the homeserver that Run started.
var shared Server

// start starts a homeserver that keeps its data in dir: the software that the
// environment asks for.
func start(ctx context.Context, dir string, progress io.Writer) (Server, error) {
	software, err := homeserver.FromEnvironment()
	if err != nil {
		return Server{}, err
	}
	server, err := homeserver.Start(ctx, homeserver.Options{Dir: dir, Software: software, Progress: progress})
	return Server{server}, err
}

// Run runs a package's tests on a homeserver that they share, and returns the exit
// code of the test program. That is not 0 if the homeserver ended by itself.
func Run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "matrix-memory-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	shared, err = start(context.Background(), dir, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "The tests need a homeserver:", err)
		return 1
	}
	defer func() {
		if err := shared.Stop(); err != nil { // its log, which is in the error, says why
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	defer endExamples()
	return m.Run()
}

// Shared returns the homeserver that the tests of a package share.
func Shared(t testing.TB) Server {
	t.Helper()
	// The environment is read in the test once more: of what is read before the tests
	// the go command knows nothing, and its cache would give the results on one
	// homeserver for those on the other.
	_, err := homeserver.FromEnvironment()
	require.NoError(t, err)
	return shared
}

// Own starts a homeserver for one test, which may stop and kill it.
func Own(t testing.TB) Server {
	t.Helper()
	own, err := start(t.Context(), t.TempDir(), t.Output())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, own.Stop()) })
	return own
}
