//go:build goolm

package e2ee

// Rounds is what stores are made with outside the tests, for which it would take too long.
var Rounds = rounds

// DecodeRecoveryKey is for tests of spellings.
var DecodeRecoveryKey = decodeRecoveryKey

func init() { rounds = 1000 }

// WithRounds has stores made with so many rounds until the function that it returns is called.
func WithRounds(n int) (restore func()) {
	before := rounds
	rounds = n
	return func() { rounds = before }
}
