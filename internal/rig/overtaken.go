package rig

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// Paused begins a write and returns once its request is paused, as [homeserver.PauseBefore]
// and its like do. release lets the request go on.
func Paused(t testing.TB, front *homeserver.Proxy, pause func(chan<- struct{}, <-chan struct{}) homeserver.Action, write func() error) (release func(), result <-chan error) {
	t.Helper()
	reached, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: pause(reached, goOn)})
	go func() { ended <- write() }()
	select {
	case <-reached:
	case err := <-ended:
		require.FailNow(t, "the write has not come to the homeserver", "%v", err)
	}
	return func() { close(goOn) }, ended
}

// Overtaken begins a write and lets something else happen before the homeserver sees
// it. Then it returns the write's result.
func Overtaken(t testing.TB, r Proxied, write func() error, by func()) error {
	t.Helper()
	release, result := Paused(t, r.Front, homeserver.PauseBefore, write)
	by()
	release()
	return <-result
}
