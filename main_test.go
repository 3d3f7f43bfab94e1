package matrix_test

import (
	"os"
	"testing"
	"time"

	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Run(m)) }

// eventually waits until a condition holds.
var eventually = rig.Eventually(30 * time.Second)
