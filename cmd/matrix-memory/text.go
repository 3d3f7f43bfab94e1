package main

import (
	"strconv"
	"strings"
	"unicode"
)

// onOneLine gives a text as it is, or in quotes if it holds what a terminal does not show.
func onOneLine(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || text == "" || text[0] == '"' {
		return strconv.Quote(text)
	}
	return text
}
