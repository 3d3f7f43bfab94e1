package adapter

import (
	"sort"
	"strings"
	"unicode/utf8"
)

// split cuts a Markdown text into parts that fit, at line ends where it can. most
// is a length in bytes that no part that fits exceeds. A fenced code block that
// is cut ends with the one part and begins again with the next, unless its fence
// would take too much of that.
func split(text string, most int, fits func(string) bool, take func(string)) {
	fence := "" // the line that opened the block that text goes on with
	for strings.TrimSpace(text) != "" {
		whole := func(n int) string { return closed(fence+text[:n], n == len(text)) }
		n := len(text)
		if n > most || !fits(whole(n)) {
			n = cut(text[:min(n, most)], func(n int) bool { return fits(whole(n)) })
			if fence != "" && !fits(whole(n)) {
				fence = ""
				continue
			}
		}
		if strings.TrimSpace(text[:n]) != "" {
			take(whole(n))
		}
		fence = open(fence+text[:n], n == len(text))
		lineEnds := text[n-1] == '\n'
		text = text[n:]
		if fence == "" {
			continue
		}
		if line, rest, _ := strings.Cut(text, "\n"); lineEnds && closes(line, fence) {
			fence, text = "", rest // it was closed already
			continue
		}
		marks, _ := fenceOf(fence)
		if fence += "\n"; len(fence)+len(marks) > min(maxFence, most*3/4) {
			fence = ""
		}
	}
}

// maxFence is how long the lines are, in bytes, that a code block is closed and
// opened with where it is cut.
const maxFence = 200

// cut returns how much of a text to take: up to the last line end that fits, or
// the last rune if not even a line does; one rune at least.
func cut(text string, fits func(int) bool) int {
	var ends []int
	for i := range len(text) {
		if text[i] == '\n' {
			ends = append(ends, i+1)
		}
	}
	if i := sort.Search(len(ends), func(i int) bool { return !fits(ends[i]) }); i > 0 && says(text[:ends[i-1]]) {
		return ends[i-1]
	}
	n := sort.Search(len(text), func(n int) bool { return !fits(n + 1) })
	for n > 0 && n < len(text) && !utf8.RuneStart(text[n]) {
		n--
	}
	if n == len(text) { // it may end within a rune
		if last, size := utf8.DecodeLastRuneInString(text); last == utf8.RuneError && size == 1 {
			for n--; n > 0 && !utf8.RuneStart(text[n]); n-- {
			}
		}
	}
	if n == 0 {
		_, n = utf8.DecodeRuneInString(text)
	}
	return n
}

// says says whether a text has more than blank lines and code fences.
func says(text string) bool {
	for line := range strings.Lines(text) {
		if marks, _ := fenceOf(line); marks == "" && strings.TrimSpace(line) != "" {
			return true
		}
	}
	return false
}

// open returns the line that opens the fenced code block that a text ends in, or
// "": https://spec.commonmark.org/0.31.2/#fenced-code-blocks. A last line that
// goes on behind the text (unless it is the end) is no fence.
func open(text string, end bool) string {
	opening := ""
	for line := range strings.Lines(text) {
		if !end && !strings.HasSuffix(line, "\n") {
			break
		}
		line = strings.TrimRight(line, "\r\n")
		marks, info := fenceOf(line)
		switch {
		case opening == "" && marks != "" && !(marks[0] == '`' && strings.Contains(info, "`")):
			opening = line
		case opening != "" && closes(line, opening):
			opening = ""
		}
	}
	return opening
}

// closes says whether a line closes the code block that another opened.
func closes(line, opening string) bool {
	fence, _ := fenceOf(opening)
	marks, info := fenceOf(line)
	return strings.HasPrefix(marks, fence) && strings.TrimSpace(info) == ""
}

// closed closes the fenced code block that a text ends in, if it does.
func closed(text string, end bool) string {
	opening := open(text, end)
	if opening == "" {
		return text
	}
	marks, _ := fenceOf(opening)
	return strings.TrimSuffix(text, "\n") + "\n" + marks
}

// fenceOf splits a line into the marks of a code fence and what follows.
func fenceOf(line string) (marks, info string) {
	bare := strings.TrimLeft(line, " ")
	if len(line)-len(bare) > 3 || !strings.HasPrefix(bare, "```") && !strings.HasPrefix(bare, "~~~") {
		return "", ""
	}
	info = strings.TrimLeft(bare, bare[:1])
	return bare[:len(bare)-len(info)], info
}
