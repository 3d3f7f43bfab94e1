//go:build goolm && peers

package peers

import (
	"os"
	"testing"
	"time"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Run(m)) }

// bound is how long a test waits for something that is to come.
const bound = 30 * time.Second

// The versions of what the tests here ran with are in their log.
func TestVersions(t *testing.T) {
	account := rig.Register(t)
	t.Logf("opsdroid: %s", startOpsdroid(t, configuration(t, account, account.NewRoom(t), matrix.OneStateKey, true)).Greeting)
	t.Logf("matrix-js-sdk: %s", startJS(t, account).Greeting)
}

var eventually = rig.Eventually(bound)
