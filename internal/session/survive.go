package session

import (
	"runtime/debug"

	"github.com/sirupsen/logrus"
)

// Survive is deferred around what people outside can bring about, so that a panic there
// ends what was being done, and not the process. It says so in the log, with where it was.
// What panics holds no secret: its message is not logged, but its type is.
func Survive(log logrus.FieldLogger, doing string) {
	if fault := recover(); fault != nil {
		log.Errorf("A fault in this program ended what it was doing (%s); it goes on. Please report it: %T\n%s", doing, fault, debug.Stack())
	}
}
