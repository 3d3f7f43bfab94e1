package wire

import (
	"math/big"
	"strconv"
	"strings"
)

func (s *scanner) number() bool {
	from := s.pos
	if s.in[s.pos] == '-' {
		s.pos++
	}
	digits := s.pos
	if s.digits() == 0 || s.in[digits] == '0' && s.pos-digits > 1 {
		return false
	}
	integer := s.pos
	if s.pos < len(s.in) && s.in[s.pos] == '.' {
		s.pos++
		if s.digits() == 0 {
			return false
		}
	}
	if s.pos < len(s.in) && s.in[s.pos]|0x20 == 'e' {
		s.pos++
		if s.pos < len(s.in) && (s.in[s.pos] == '+' || s.in[s.pos] == '-') {
			s.pos++
		}
		if s.digits() == 0 {
			return false
		}
	}
	number := s.in[from:s.pos]
	s.out = append(s.out, number...)
	if s.pos != integer || !safeInteger(s.in[digits:integer], digits > from) {
		s.inexact = true
		s.lossy = s.lossy || !survivesFloat(string(number))
	}
	return true
}

func (s *scanner) digits() (n int) {
	for s.pos < len(s.in) && '0' <= s.in[s.pos] && s.in[s.pos] <= '9' {
		s.pos++
		n++
	}
	return n
}

// safeInteger reports whether canonical JSON has this integer: within
// ±(2^53−1), and no negative zero.
func safeInteger(digits []byte, negative bool) bool {
	const largest = "9007199254740991"
	if negative && digits[0] == '0' {
		return false
	}
	return len(digits) < len(largest) || len(digits) == len(largest) && string(digits) <= largest
}

// survivesFloat reports whether a number is still the same number after a
// reader took it for a float64 and wrote it again, as most JSON libraries do.
func survivesFloat(number string) bool {
	// No float64 needs more than 24 characters; the bound keeps big.Rat cheap.
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || len(number) > 64 {
		return false
	}
	if f == 0 {
		mantissa, _, _ := strings.Cut(strings.ToLower(number), "e")
		return !strings.ContainsAny(mantissa, "-123456789")
	}
	before, ok := new(big.Rat).SetString(number)
	after, same := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, 64))
	return ok && same && before.Cmp(after) == 0
}
