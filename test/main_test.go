// Package test holds the end-to-end tests: what a user can rely on, as README.md
// promises it, on a real homeserver. There is a file for each promise, or for each
// of the faults that it has to survive.
package test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Run(m)) }

// eventually waits until a condition holds, for less than the 30 s after which an idle sync
// comes back by itself.
var eventually = rig.Eventually(20 * time.Second)

// slack is what a slow machine may take besides what a test waits for.
const slack = 5 * time.Second

// behind opens a memory in a new room behind a proxy, in which faults may wait
// already.
func behind(t testing.TB, front *homeserver.Proxy, bot rig.Account, timeout time.Duration, layout matrix.StateKey, options ...matrix.Option) rig.Proxied {
	t.Helper()
	conf := bot.Config(bot.NewRoom(t))
	conf.Timeout, conf.SingleStateKey = timeout, layout
	return rig.Behind(t, front, bot, conf, options...)
}

// answered checks that the homeserver's own answer is reached.
func answered(t testing.TB, err error, code string) {
	t.Helper()
	var answer mautrix.RespError
	require.ErrorAs(t, err, &answer)
	require.Equal(t, code, answer.ErrCode)
}
