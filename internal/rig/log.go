package rig

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"
)

// Log returns a logger that writes to the test's output.
func Log(t testing.TB) logrus.FieldLogger { return logger(t.Output(), logrus.DebugLevel) }

// Warnings returns a logger that writes only warnings and errors to the test's output.
func Warnings(t testing.TB) logrus.FieldLogger { return logger(t.Output(), logrus.WarnLevel) }

// Silence returns a logger that writes nothing.
func Silence() logrus.FieldLogger { return logger(io.Discard, logrus.InfoLevel) }

// KeepLog returns a logger that keeps everything, and what it kept.
func KeepLog() (logrus.FieldLogger, *Buffer) {
	var kept Buffer
	return logger(&kept, logrus.TraceLevel), &kept
}

func logger(w io.Writer, level logrus.Level) logrus.FieldLogger {
	logger := logrus.New()
	logger.SetOutput(w)
	logger.SetLevel(level)
	return logger
}

// A Buffer may be written and read at the same time.
type Buffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// Lines returns those of its lines that hold all of the words.
func (b *Buffer) Lines(words ...string) (lines []string) {
next:
	for line := range strings.Lines(b.String()) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue next
			}
		}
		lines = append(lines, line)
	}
	return lines
}
