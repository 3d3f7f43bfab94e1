package memorytest

import (
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
)

// A fault is a memory that must not pass, and the subtest that has to say so.
type fault struct {
	subtest string
	open    func(t *testing.T, d *disk) joe.Memory
}

// onSound makes a fault of something that is done to a sound memory.
func onSound(subtest string, tamper func(m *sound) joe.Memory) fault {
	return fault{subtest, func(_ *testing.T, d *disk) joe.Memory { return tamper(&sound{disk: d}) }}
}

const faultVariable = "MEMORYTEST_FAULT"

// ofKeys matches what the suite says of Keys.
var ofKeys = regexp.MustCompile(`: Keys (has|lacks) .*`)

// TestRunFailsOnFaults runs the suite on each faulty memory, in a process of its
// own because there it has to fail.
func TestRunFailsOnFaults(t *testing.T) {
	faults := maps.Clone(faults)
	maps.Copy(faults, peerFaults)
	if fault, ok := faults[os.Getenv(faultVariable)]; ok {
		patience = 100 * time.Millisecond
		disks := disks{}
		Run(t, func(t *testing.T) joe.Memory { return fault.open(t, disks.of(t)) })
		return
	}
	executable, err := os.Executable()
	require.NoError(t, err)
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), executable, "-test.run=^TestRunFailsOnFaults$", "-test.timeout=1m")
			cmd.Env = append(os.Environ(), faultVariable+"="+name)
			output, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "the suite passes")
			require.Equal(t, 1, exit.ExitCode(), "the suite does not come to its end: %s", output)
			failed := regexp.MustCompile(`(?m)^ *--- FAIL: TestRunFailsOnFaults/(\w+)`)
			var subtests []string
			for _, match := range failed.FindAllStringSubmatch(string(output), -1) {
				subtests = append(subtests, match[1])
			}
			t.Logf("it fails in %v", subtests)
			require.Contains(t, subtests, fault.subtest, "%s", output)
			for _, test := range strings.Split(string(output), "--- FAIL: ") {
				said := ofKeys.FindAllString(test, -1)
				slices.Sort(said)
				require.Len(t, slices.Compact(slices.Clone(said)), len(said), "said more than once: %s", test)
			}
		})
	}
}
