//go:build !unix

package process

import (
	"os"
	"os/exec"
)

// setChild has nothing to set: the process groups and inherited files that the
// package uses elsewhere are a Unix matter.
func setChild(*exec.Cmd, *os.File) {}

// endGroup has nothing to end, as there is no process group.
func endGroup(*exec.Cmd) {}

const LockExcludes = false

// TryLock only opens path. Here nothing keeps two programs from making the same
// product at once (each makes its own, and one of them stays) or from running
// servers in the same folder at once (which the one who chooses the folder has to
// avoid).
func TryLock(path string) (lock *os.File, ok bool, err error) {
	lock, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	return lock, err == nil, err
}
