//go:build goolm && peers

package peers

import (
	"os"
	"testing"
	"time"

	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Run(m)) }

// bound is how long a test waits for something that is to come.
const bound = 30 * time.Second

var eventually = rig.Eventually(bound)
