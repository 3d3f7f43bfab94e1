// Package upgrade holds the end-to-end tests of rooms that are upgraded: another room takes the
// place of the one that a memory is in.
package upgrade

import (
	"os"
	"testing"
	"time"

	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Run(m)) }

// eventually waits until a condition holds, for less than the 30 s after which an idle sync
// comes back by itself.
var eventually = rig.Eventually(20 * time.Second)

// slack is what a slow machine may take besides what a test waits for.
const slack = 5 * time.Second
