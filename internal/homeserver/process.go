package homeserver

import (
	"os/exec"
	"runtime"
)

// process is a running child process.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone
	err    error         // what cmd.Wait returned; set when exited is closed
}

// startProcess starts cmd and waits for its end in a goroutine.
//
// That goroutine also starts it and keeps its thread meanwhile, because on Linux
// the death signal that childAttr asks for is sent when the starting thread
// ends, not the program.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.exited)
		}
	}()
	return p, <-started
}

// kill ends the process by force and waits until it is gone.
func (p *process) kill() {
	// The only error means that it is gone already.
	_ = p.cmd.Process.Kill()
	<-p.exited
}
