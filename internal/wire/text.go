package wire

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// Half a surrogate pair, which JSON can express and UTF-8 cannot, is kept in
// names as the three bytes that UTF-8 would have had for it. So no two names
// become one, and each is written again as it was read.

func isSurrogate(r rune) bool { return 0xD800 <= r && r <= 0xDFFF }

// unescape reads the escape that text starts with. A pair of surrogates is one
// escape. n is 0 if it is none of JSON's.
func unescape(text []byte) (r rune, n int) {
	if len(text) < 2 {
		return 0, 0
	}
	switch text[1] {
	case '"', '\\', '/':
		return rune(text[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	}
	r, ok := codeUnit(text)
	if !ok {
		return 0, 0
	}
	if 0xD800 <= r && r < 0xDC00 {
		if low, ok := codeUnit(text[6:]); ok && 0xDC00 <= low && low <= 0xDFFF {
			return (r-0xD800)<<10 | (low - 0xDC00) + 0x10000, 12
		}
	}
	return r, 6
}

// codeUnit reads an escape: \u and four hexadecimal digits.
func codeUnit(text []byte) (r rune, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	for _, c := range text[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unquote gives the text of a valid JSON string: a part of quoted itself where
// nothing is escaped.
func unquote(quoted []byte) []byte {
	text := quoted[1 : len(quoted)-1]
	i := bytes.IndexByte(text, '\\')
	if i < 0 {
		return text
	}
	plain := append(make([]byte, 0, len(text)), text[:i]...)
	for i < len(text) {
		if text[i] != '\\' {
			plain = append(plain, text[i])
			i++
			continue
		}
		r, n := unescape(text[i:])
		if isSurrogate(r) {
			plain = append(plain, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
		} else {
			plain = utf8.AppendRune(plain, r)
		}
		i += n
	}
	return plain
}

// appendEscaped appends r as canonical JSON has it in a string.
func appendEscaped(dst []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	switch {
	case r == '"' || r == '\\':
		return append(dst, '\\', byte(r))
	case r == '\b':
		return append(dst, `\b`...)
	case r == '\f':
		return append(dst, `\f`...)
	case r == '\n':
		return append(dst, `\n`...)
	case r == '\r':
		return append(dst, `\r`...)
	case r == '\t':
		return append(dst, `\t`...)
	case r < ' ':
		return append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&0xF])
	case isSurrogate(r):
		return strconv.AppendInt(append(dst, '\\', 'u'), int64(r), 16)
	}
	return utf8.AppendRune(dst, r)
}

// appendString appends text as a string of canonical JSON. Bytes that are not
// UTF-8 become U+FFFD.
func appendString[T string | []byte](dst []byte, text T) []byte {
	dst = append(dst, '"')
	copied := 0
	for i := 0; i < len(text); {
		c := text[i]
		if ' ' <= c && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		r, n := rune(c), 1
		if c >= utf8.RuneSelf {
			r, n = decodeRune(string(text[i:min(i+utf8.UTFMax, len(text))]))
			if n > 1 && !isSurrogate(r) {
				i += n
				continue
			}
		}
		dst = append(dst, text[copied:i]...)
		dst = appendEscaped(dst, r)
		i += n
		copied = i
	}
	dst = append(dst, text[copied:]...)
	return append(dst, '"')
}

// decodeRune is utf8.DecodeRuneInString that also knows half surrogate pairs.
func decodeRune(text string) (r rune, n int) {
	r, n = utf8.DecodeRuneInString(text)
	if r == utf8.RuneError && n == 1 && len(text) >= 3 &&
		text[0] == 0xED && 0xA0 <= text[1] && text[1] <= 0xBF && 0x80 <= text[2] && text[2] <= 0xBF {
		return 0xD000 | rune(text[1]&0x3F)<<6 | rune(text[2]&0x3F), 3
	}
	return r, n
}

// needsEscape says whether JSON can't hold a text without an escape. As the name
// of a member such a text is not safe on every homeserver: Dendrite 0.15.2 writes
// names without escapes into its events, answers 500 or, worse, stores an event
// that it can't read again. (Dendrite 0.13.8 and Synapse 1.98.0 keep them.)
func needsEscape[T string | []byte](text T) bool {
	for i := range len(text) {
		if c := text[i]; c < 0x20 || c == '"' || c == '\\' {
			return true
		}
	}
	return false
}
