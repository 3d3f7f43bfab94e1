//go:build !unix

package homeserver

import (
	"os"
	"os/exec"
)

// setChild has nothing to set: the process groups and inherited files that the
// package uses elsewhere are a Unix matter.
func setChild(*exec.Cmd, *os.File) {}

// tryLock only opens path. Here nothing keeps two programs from building the
// server at once (both arrive at the same program) or from using the same
// folder at once (which the one who chooses the folder has to avoid).
func tryLock(path string) (lock *os.File, ok bool, err error) {
	lock, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	return lock, err == nil, err
}
