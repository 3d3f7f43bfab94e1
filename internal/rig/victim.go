package rig

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// victimEnv holds what a victim's process is to do, as JSON.
const victimEnv = "MATRIX_MEMORY_TEST_VICTIM"

// Victim makes this process a victim, if [StartVictim] started it: it runs no
// tests but run, and ends. A package calls it in an init function.
func Victim[V any](run func(V) error) {
	orders, ordered := os.LookupEnv(victimEnv)
	if !ordered {
		return
	}
	var victim V
	err := json.Unmarshal([]byte(orders), &victim)
	if err == nil {
		err = run(victim)
	}
	fmt.Println(err)
	os.Exit(1)
}

// StartVictim starts the test program once more, as a victim, and returns how to
// kill it, which may be done twice. The first line that the victim prints is sent
// on line; it is empty if the victim ends without one.
func StartVictim(t testing.TB, victim any) (line <-chan string, kill func()) {
	t.Helper()
	orders, err := json.Marshal(victim)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+string(orders))
	cmd.Stderr = t.Output()  // where a panic of the victim is seen
	_, err = cmd.StdinPipe() // which the victim may read until the test ends
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	killed := false
	kill = func() {
		if !killed {
			killed = true
			require.NoError(t, cmd.Process.Kill())
			require.Error(t, cmd.Wait())
		}
	}
	t.Cleanup(kill)
	lines := make(chan string, 1)
	go func() {
		scanner := bufio.NewScanner(out)
		scanner.Scan()
		lines <- scanner.Text()
	}()
	return lines, kill
}
