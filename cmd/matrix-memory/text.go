package main

import (
	"fmt"
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

// count gives a number of things.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
