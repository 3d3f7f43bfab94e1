package adapter_test

import (
	"os"
	"testing"
	"time"

	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Run(m)) }

// bound is how long a test waits for what must come.
const bound = 30 * time.Second

// eventually waits until a condition holds.
var eventually = rig.Eventually(bound)
