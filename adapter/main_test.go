package adapter_test

import (
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Run(m)) }

// bound is how long a test waits for what must come.
const bound = 30 * time.Second

// eventually waits until a condition holds.
var eventually = rig.Eventually(bound)

// noLeaks fails the test if it leaves goroutines behind. Joe itself leaves those
// that wait for signals.
func noLeaks(t testing.TB) {
	rig.NoLeaks(t, goleak.IgnoreAnyFunction("github.com/go-joe/joe.cliContext.func1"))
}
