//go:build !unix && goolm

package e2ee

import (
	"errors"
	"os"
)

// tryLock makes sure that nobody else has a file open, which it creates if need
// be: elsewhere than on Unix, a file that is open can't be removed.
func tryLock(path string) (lock *os.File, ok bool, err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, false, nil
	}
	return file, err == nil, err
}
