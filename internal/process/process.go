// Package process runs child processes that end with this one, as far as the system
// can see to that, and locks files for them.
package process

import (
	"os"
	"os/exec"
	"runtime"
)

// A Process is a child process that was started.
type Process struct {
	Exited <-chan struct{} // closed when the process is gone

	cmd *exec.Cmd
	err error // what cmd.Wait returned; set when Exited is closed
}

// Start starts cmd and waits for its end in a goroutine. The process holds the lock, if
// there is one, for as long as it lives.
//
// That goroutine also starts it and keeps its thread meanwhile, because on Linux the death
// signal that childAttr asks for is sent when the starting thread ends, not the program.
func Start(cmd *exec.Cmd, lock *os.File) (*Process, error) {
	setChild(cmd, lock)
	exited := make(chan struct{})
	p := &Process{Exited: exited, cmd: cmd}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(exited)
		}
	}()
	return p, <-started
}

// Err waits until the process is gone and returns what [exec.Cmd.Wait] did.
func (p *Process) Err() error {
	<-p.Exited
	return p.err
}

// Signal sends a signal to the process.
func (p *Process) Signal(signal os.Signal) error { return p.cmd.Process.Signal(signal) }

// Kill ends the process by force and waits until it is gone.
func (p *Process) Kill() {
	// The only error means that it is gone already.
	_ = p.cmd.Process.Kill()
	<-p.Exited
}
