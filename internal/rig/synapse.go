package rig

import (
	"path"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// failsOnSynapse names the tests that fail on Synapse for a fault that is known,
// and says which. A name is that of a whole test, no subtest, after that of its
// package, as in "test.TestRedacted". Who mends the fault takes the name out.
var failsOnSynapse = faults{
	"test.TestRedacted":              neverRead,
	"test.TestRedactionInAGapOfSync": neverRead,
	"test.TestTwoBotsOneDictionary": "the replica takes the timeline's last event for what stands in the room; " +
		"of two that were sent at the same moment it can be the other",
}

const neverRead = "a redacted state event of the memory is never read again: Synapse 1.98 does not answer " +
	"GET …/state/TYPE/KEY?format=event for it"

// faults are what is wrong, by the names of tests.
type faults map[string]string

// reach skips a test that is known to fail on Synapse, or a part of one, if Synapse
// is the homeserver. Shared and Own call it, as only they hand out homeservers.
func reach(t testing.TB) {
	t.Helper()
	// The environment is read in the test once more: of what is read before the tests
	// the go command knows nothing, and its cache would give the results on one
	// homeserver for those on the other.
	software, err := homeserver.FromEnvironment()
	require.NoError(t, err)
	if software != homeserver.Synapse {
		return
	}
	if fault := failsOnSynapse.of(thisPackage() + "." + t.Name()); fault != "" {
		t.Skip("fails on Synapse: " + fault)
	}
}

// of returns the fault that a test fails for, by its name or that of a subtest. It
// returns "" for all other tests.
func (f faults) of(name string) string {
	test, _, _ := strings.Cut(name, "/")
	return f[test]
}

// thisPackage returns the last part of the path of the package whose tests run.
func thisPackage() string {
	info, _ := debug.ReadBuildInfo() // a test program always has one
	return path.Base(strings.TrimSuffix(info.Path, ".test"))
}
