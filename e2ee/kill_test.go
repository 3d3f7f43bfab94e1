//go:build goolm

package e2ee_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// A process that is to be killed is this test program with these variables.
const (
	victimServer = "MATRIX_MEMORY_VICTIM_SERVER"
	victimUser   = "MATRIX_MEMORY_VICTIM_USER"
	victimRoom   = "MATRIX_MEMORY_VICTIM_ROOM"
	victimStore  = "MATRIX_MEMORY_VICTIM_STORE"
)

// victim sets a value and does not live to see the end of it.
func victim() int {
	memory := matrix.New(matrix.Config{
		Homeserver: os.Getenv(victimServer),
		UserID:     os.Getenv(victimUser),
		Password:   "a password",
		Rooms:      map[string]string{"main": os.Getenv(victimRoom)},
		StorePath:  os.Getenv(victimStore),
		StoreKey:   "a passphrase",
	}, e2ee.Enable())
	if err := memory.Open(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stderr, memory.Set("tea", []byte(`"black"`)))
	return 1
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
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), victimServer+"="+proxyConf.Homeserver, victimUser+"="+conf.UserID,
		victimRoom+"="+room.String(), victimStore+"="+conf.StorePath)
	var output bytes.Buffer
	process.Stderr = &output
	require.NoError(t, process.Start())
	ended := make(chan error, 1)
	go func() { ended <- process.Wait() }()
	select {
	case <-reached:
		require.NoError(t, process.Process.Kill())
		<-ended
	case <-ended:
		t.Fatalf("the process ended by itself: %s", output.String())
	}
	events, states := writes(proxy)
	require.Equal(t, 1, events)
	require.Equal(t, 1, states) // which never came to the homeserver

	memory = open(t, conf)
	requireValue(t, memory, "tea", `"green"`)
	require.NoError(t, memory.Set("tea", []byte(`"white"`)))
	requireValue(t, memory, "tea", `"white"`)
	evt := other.decrypt(t, room, bot.pointers(t, room)["tea"])
	require.JSONEq(t, `{"tea":"white"}`, string(evt.Content.VeryRaw))
}
