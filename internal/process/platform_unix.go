//go:build unix

package process

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// childAttr says how the processes of this package are started: as leaders of
// their own process groups.
var childAttr = syscall.SysProcAttr{Setpgid: true}

// setChild applies childAttr to cmd and lets the process hold lock, if there is
// one, for as long as it lives. When cmd's context ends, the whole process group
// is killed, since "go build" runs compilers of its own.
func setChild(cmd *exec.Cmd, lock *os.File) {
	attr := childAttr
	cmd.SysProcAttr = &attr
	if lock != nil {
		cmd.ExtraFiles = []*os.File{lock}
	}
	if cmd.Cancel != nil {
		cmd.Cancel = func() error {
			err := killGroup(cmd)
			if errors.Is(err, syscall.ESRCH) {
				return os.ErrProcessDone
			}
			return err
		}
	}
}

// killGroup kills all that there is of the process group that cmd leads.
func killGroup(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// endGroup kills what is left of the process group of cmd, which has ended, and
// waits until that is gone, at most toolBound.
func endGroup(cmd *exec.Cmd) {
	for begin := time.Now(); time.Since(begin) < toolBound; time.Sleep(10 * time.Millisecond) {
		if killGroup(cmd) != nil {
			return // nothing is left
		}
	}
}

// LockExcludes says that a lock which TryLock has got keeps others out.
const LockExcludes = true

// TryLock locks path, which is created when it does not exist, and reports
// false if another holder has it. The lock lasts until the file is closed here
// and in every process that inherited it.
func TryLock(path string) (lock *os.File, ok bool, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return file, true, nil
	}
	file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return nil, false, nil
	}
	return nil, false, &os.PathError{Op: "lock", Path: path, Err: err}
}
