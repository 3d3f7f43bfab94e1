package journal

import (
	"os/signal"
	"syscall"
)

// limitFiles limits how large a file may become that this process writes.
func limitFiles(size int) error {
	signal.Ignore(syscall.SIGXFSZ) // the write fails instead
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(size), Max: uint64(size)})
}
