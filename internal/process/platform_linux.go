package process

import "syscall"

// The kernel kills a child when the thread that started it ends. The goroutine
// that starts a process therefore keeps its thread until the process is gone.
func init() { childAttr.Pdeathsig = syscall.SIGKILL }
