// Package writers holds the end-to-end tests of what several programs make of one room: memories,
// and programs as opsdroid, that write it at the same time, late, or by what is out of date.
package writers

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
