package adapter

import (
	"regexp"
	"strings"
)

var (
	// What means something in Markdown wherever it stands, and what does where a line
	// begins: https://spec.commonmark.org/0.31.2/#backslash-escapes
	meaning        = regexp.MustCompile("[\\\\`*_\\[\\]<~|]|&[#0-9A-Za-z]")
	meaningAtStart = regexp.MustCompile(`(?m)^([ \t\r]*)([-+=#>:]|[0-9]+([.)]))`)
	indentation    = regexp.MustCompile(`(?m)^[ \t]+`)
)

// Escape returns a text as Markdown that shows it as it stands: nothing in it is formatted,
// leads anywhere or mentions anybody. A bot says so what others gave it, be it a message, a
// name or a web page:
//
//	msg.Respond("%s is not a city that I know.", adapter.Escape(msg.Matches[0]))
func Escape(text string) string {
	text = meaning.ReplaceAllString(text, `\$0`)
	text = meaningAtStart.ReplaceAllStringFunc(text, func(begin string) string {
		return begin[:len(begin)-1] + `\` + begin[len(begin)-1:]
	})
	// A line that is indented would be code.
	return indentation.ReplaceAllStringFunc(text, func(space string) string {
		return strings.Repeat("\u00a0", len(strings.ReplaceAll(space, "\t", "    ")))
	})
}
