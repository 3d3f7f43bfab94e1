package homeserver

import (
	"errors"
	"os"
)

// writeFile writes a file under another name first, so that nobody ever finds
// half of it, also if this process is killed meanwhile.
func writeFile(name string, data []byte) error {
	unfinished := name + ".unfinished"
	if err := os.WriteFile(unfinished, data, 0o600); err != nil {
		return err
	}
	return os.Rename(unfinished, name)
}

// createFile writes a file unless there is one.
func createFile(name string, data []byte) error {
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return writeFile(name, data)
}
