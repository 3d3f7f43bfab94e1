package room

import "time"

// RedactAfter has encrypted events redacted after another time until the function that it
// returns is called.
func RedactAfter(d time.Duration) (restore func()) {
	before := redactAfter
	redactAfter = d
	return func() { redactAfter = before }
}
