package wire

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// maxNesting is how deep JSON may nest, as in encoding/json. What nests deeper
// is not taken for JSON, so that no value can exhaust the stack.
const maxNesting = 10_000

// scanner reads a JSON text in one pass. It is strict: RFC 8259 and valid
// UTF-8. On the way it copies the text without white space and notes what
// decides how the text may stand in an event.
type scanner struct {
	in        []byte
	pos       int
	canonical bool // sort members and use as few escapes as can be

	out     []byte   // the copy; never longer than in
	members []member // of the outermost object, unless canonical

	depth     int  // how deep the text nests
	nul       bool // a string or name holds U+0000
	surrogate bool // a string or name holds half a surrogate pair
	quoted    bool // a name needs an escape
	duplicate bool // an object has two members of one name; noted only if canonical
	inexact   bool // a number is not one of canonical JSON's integers
	lossy     bool // a number does not survive as a float64
	lookalike bool // the last value read is an object with one, reserved member
}

// member is one member of an object. Its positions are those of the copy.
type member struct {
	name              []byte // with escapes resolved
	start, value, end int
	lookalike         bool
}

func (m member) compare(other member) int { return bytes.Compare(m.name, other.name) }

// scan reads in, which must hold exactly one JSON value.
func scan(in []byte, canonical bool) (s scanner, ok bool) {
	s = scanner{in: in, canonical: canonical, out: make([]byte, 0, len(in))}
	ok = s.value(0)
	s.space()
	return s, ok && s.pos == len(in)
}

func (s *scanner) space() {
	for s.pos < len(s.in) {
		switch s.in[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// next skips white space and copies c if it comes next.
func (s *scanner) next(c byte) bool {
	s.space()
	if s.pos == len(s.in) || s.in[s.pos] != c {
		return false
	}
	s.pos++
	s.out = append(s.out, c)
	return true
}

func (s *scanner) value(depth int) bool {
	s.space()
	s.lookalike = false
	if s.pos == len(s.in) {
		return false
	}
	switch s.in[s.pos] {
	case '{':
		return s.object(depth + 1)
	case '[':
		return s.array(depth + 1)
	case '"':
		return s.text()
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	}
	return s.number()
}

func (s *scanner) object(depth int) bool {
	s.depth = max(s.depth, depth)
	if depth > maxNesting || !s.next('{') {
		return false
	}
	var (
		few     [8]member
		members = few[:0]
		body    = len(s.out)
		last    member
		count   int
	)
	for !s.next('}') {
		if count > 0 && !s.next(',') {
			return false
		}
		var ok bool
		if last, ok = s.member(depth); !ok {
			return false
		}
		count++
		if s.canonical || depth == 1 {
			members = append(members, last)
		}
	}
	switch {
	case s.canonical:
		s.arrange(body, members)
	case depth == 1:
		s.members = slices.Clone(members)
	}
	s.lookalike = count == 1 && reserved(last.name)
	return true
}

func (s *scanner) member(depth int) (m member, ok bool) {
	s.space()
	m.start = len(s.out)
	from := s.pos
	if !s.text() {
		return m, false
	}
	m.name = unquote(s.in[from:s.pos])
	s.quoted = s.quoted || needsEscape(m.name)
	if !s.next(':') {
		return m, false
	}
	m.value = len(s.out)
	ok = s.value(depth)
	m.end = len(s.out)
	m.lookalike = s.lookalike
	return m, ok
}

// arrange sorts the members of the object that the copy ends with.
func (s *scanner) arrange(body int, members []member) {
	if !slices.IsSortedFunc(members, member.compare) {
		text := slices.Clone(s.out[body:])
		slices.SortStableFunc(members, member.compare)
		s.out = s.out[:body]
		for i, m := range members {
			if i > 0 {
				s.out = append(s.out, ',')
			}
			s.out = append(s.out, text[m.start-body:m.end-body]...)
		}
		s.out = append(s.out, '}')
	}
	for i := 1; i < len(members); i++ {
		if bytes.Equal(members[i-1].name, members[i].name) {
			s.duplicate = true
		}
	}
}

func (s *scanner) array(depth int) bool {
	s.depth = max(s.depth, depth)
	if depth > maxNesting || !s.next('[') {
		return false
	}
	for first := true; !s.next(']'); first = false {
		if !first && !s.next(',') || !s.value(depth) {
			return false
		}
	}
	s.lookalike = false
	return true
}

func (s *scanner) literal(word string) bool {
	if !bytes.HasPrefix(s.in[s.pos:], []byte(word)) {
		return false
	}
	s.pos += len(word)
	s.out = append(s.out, word...)
	return true
}

// text reads a string.
func (s *scanner) text() bool {
	if s.pos == len(s.in) || s.in[s.pos] != '"' {
		return false
	}
	copied := s.pos
	for i := s.pos + 1; i < len(s.in); {
		switch c := s.in[i]; {
		case c == '"':
			s.pos = i + 1
			s.out = append(s.out, s.in[copied:s.pos]...)
			return true
		case c == '\\':
			r, n := unescape(s.in[i:])
			if n == 0 {
				return false
			}
			s.nul = s.nul || r == 0
			s.surrogate = s.surrogate || isSurrogate(r)
			if s.canonical {
				s.out = append(s.out, s.in[copied:i]...)
				s.out = appendEscaped(s.out, r)
				copied = i + n
			}
			i += n
		case c < ' ':
			return false
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(s.in[i:])
			if r == utf8.RuneError && n == 1 {
				return false
			}
			i += n
		}
	}
	return false
}
