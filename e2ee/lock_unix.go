//go:build unix && goolm

package e2ee

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks a file, which it creates if need be, and reports whether nobody
// else had it locked. The lock lasts until the file is closed or the process ends.
func tryLock(path string) (lock *os.File, ok bool, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return file, true, nil
	}
	file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, false, nil
	}
	return nil, false, &os.PathError{Op: "lock", Path: path, Err: err}
}
