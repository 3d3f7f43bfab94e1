package homeserver

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

const (
	logTail = 64 << 10 // how much of the server's log is shown, in bytes
	logMost = 1 << 20  // with how much of it the server may be started
)

// Log returns the end of what the server has written to its log since it first
// ran in its folder, for a failing test to show. It is empty if there is none.
func (s *Server) Log() string {
	tail, _ := readTail(s.logFile())
	return string(tail)
}

func (s *Server) logFile() string { return filepath.Join(s.opts.Dir, s.program.logFile()) }

// openLog opens the log for a server that is about to start. Of one that has
// grown large it keeps what Log returns.
func (s *Server) openLog() (*os.File, error) {
	name := s.logFile()
	switch info, err := os.Stat(name); {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Size() > logMost:
		tail, err := readTail(name)
		if err == nil {
			err = writeFile(name, tail)
		}
		if err != nil {
			return nil, err
		}
	}
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

func readTail(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > logTail {
		if _, err := file.Seek(-logTail, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(file)
}
