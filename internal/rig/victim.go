package rig

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// victimEnv holds what a victim's process is to do: the kind of the victim, and JSON.
const victimEnv = "MATRIX_MEMORY_TEST_VICTIM"

// Victim makes this process a victim, if [StartVictim] or [StartTeller] started it with
// orders of this type: it runs no tests but run, and ends. A package calls it in an init
// function.
func Victim[V any](run func(V) error) {
	var victim V
	orders, ordered := strings.CutPrefix(os.Getenv(victimEnv), kind(victim))
	if !ordered {
		return
	}
	err := json.Unmarshal([]byte(orders), &victim)
	if err == nil {
		err = run(victim)
	}
	fmt.Println(err)
	os.Exit(1)
}

// kind stands before a victim's orders, as a package may have several kinds.
func kind(victim any) string { return fmt.Sprintf("%T ", victim) }

// StartVictim starts the test program once more, as a victim, and returns how to
// kill it, which may be done twice. The first line that the victim prints is sent
// on line; it is empty if the victim ends without one.
func StartVictim(t testing.TB, victim any) (line <-chan string, kill func()) {
	t.Helper()
	cmd := victimCommand(t, victim)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	kill = launch(t, cmd)
	lines := make(chan string, 1)
	go func() {
		scanner := bufio.NewScanner(out)
		scanner.Scan()
		lines <- scanner.Text()
	}()
	return lines, kill
}

// StartTeller is like [StartVictim], but all that the victim prints is kept. All of it is
// told when kill has returned.
func StartTeller(t testing.TB, victim any) (told *Buffer, kill func()) {
	t.Helper()
	cmd := victimCommand(t, victim)
	told = new(Buffer)
	cmd.Stdout = told
	return told, launch(t, cmd)
}

// victimCommand returns the command that runs a victim.
func victimCommand(t testing.TB, victim any) *exec.Cmd {
	t.Helper()
	orders, err := json.Marshal(victim)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+kind(victim)+string(orders))
	cmd.Stderr = t.Output()  // where a panic of the victim is seen
	_, err = cmd.StdinPipe() // which the victim may read until the test ends
	require.NoError(t, err)
	return cmd
}

// launch starts a victim and returns how to kill it, at the latest when the test ends.
func launch(t testing.TB, cmd *exec.Cmd) (kill func()) {
	t.Helper()
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
	return kill
}
