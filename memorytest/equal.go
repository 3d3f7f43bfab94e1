package memorytest

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"unicode/utf8"
)

// equalValues tells whether a memory that was given want may return got. The
// package documentation has the rule.
func equalValues(want, got []byte) bool {
	if bytes.Equal(want, got) {
		return true
	}
	wantTree, ok := parseStrict(want)
	if !ok {
		return false
	}
	gotTree, ok := parseStrict(got)
	return ok && reflect.DeepEqual(wantTree, gotTree)
}

// parseStrict parses JSON that means the same to every parser: UTF-8 without
// duplicate members and lone surrogates, of which encoding/json would silently
// drop one and replace the other. Numbers stay literals.
func parseStrict(text []byte) (tree interface{}, ok bool) {
	if !utf8.Valid(text) || !json.Valid(text) || hasLoneSurrogate(text) {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return parseNext(dec)
}

// parseNext reads one value token by token. The text is known to be valid, so
// the decoder has no errors to report.
func parseNext(dec *json.Decoder) (tree interface{}, ok bool) {
	token, _ := dec.Token()
	switch token {
	case json.Delim('['):
		list := []interface{}{}
		for dec.More() {
			item, ok := parseNext(dec)
			if !ok {
				return nil, false
			}
			list = append(list, item)
		}
		_, _ = dec.Token()
		return list, true
	case json.Delim('{'):
		members := map[string]interface{}{}
		for dec.More() {
			token, _ := dec.Token()
			name := token.(string)
			item, ok := parseNext(dec)
			if _, duplicate := members[name]; duplicate || !ok {
				return nil, false
			}
			members[name] = item
		}
		_, _ = dec.Token()
		return members, true
	default:
		return token, true
	}
}

// hasLoneSurrogate tells whether valid JSON has a \u escape for one half of a
// surrogate pair without the other half.
func hasLoneSurrogate(text []byte) bool {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++ // the escaped character, which may be a backslash itself
		if text[i] != 'u' {
			continue
		}
		unit := codeUnit(text[i+1:])
		i += 4
		if unit < 0xD800 || unit > 0xDFFF {
			continue
		}
		if unit >= 0xDC00 || !bytes.HasPrefix(text[i+1:], []byte(`\u`)) {
			return true
		}
		if low := codeUnit(text[i+3:]); low < 0xDC00 || low > 0xDFFF {
			return true
		}
		i += 6
	}
	return false
}

// codeUnit reads the four hexadecimal digits of a \u escape.
func codeUnit(digits []byte) uint64 {
	unit, _ := strconv.ParseUint(string(digits[:4]), 16, 16)
	return unit
}
