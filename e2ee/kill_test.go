//go:build goolm

package e2ee_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A victim is a bot that sets a value, in a process of its own, to be killed.
type victim matrix.Config

func init() { rig.Victim(victim.run) }

// run does not live to see the end of it.
func (v victim) run() error {
	memory := matrix.New(matrix.Config(v), matrix.WithLogger(rig.Silence()), e2ee.Enable())
	if err := memory.Open(context.Background()); err != nil {
		return err
	}
	return memory.Set("tea", []byte(`"black"`))
}

// The process is killed when the encrypted event is sent and the state is not: the
// old value is there, the key store opens, and all goes on.
func TestProcessIsKilledBetweenEventAndState(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	conf := bot.config(t, room)
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, memory.Close())

	proxyConf, proxy := proxied(t, conf)
	reached, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	proxy.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: homeserver.PauseBefore(reached, release)})
	line, kill := rig.StartVictim(t, victim(proxyConf))
	select {
	case <-reached:
		kill()
	case text := <-line:
		t.Fatalf("the process ended by itself: %s", text)
	}
	events, states := writes(proxy)
	require.Equal(t, 1, events)
	require.Equal(t, 1, states) // which never came to the homeserver

	memory = open(t, conf)
	rig.Has(t, memory, "tea", `"green"`)
	require.NoError(t, memory.Set("tea", []byte(`"white"`)))
	rig.Has(t, memory, "tea", `"white"`)
	evt := other.decrypt(t, room, bot.pointers(t, room)["tea"])
	require.JSONEq(t, `{"tea":"white"}`, string(evt.Content.VeryRaw))
}
