package adapter

import (
	"strings"
	"unicode/utf8"
)

// split cuts a Markdown text into parts that fit, at line ends where it can. most
// is a length in bytes that no part that fits exceeds. A fenced code block that
// is cut ends with the one part and begins again with the next, unless its fence
// would take too much of that. It ends where take, which gets the parts, returns false.
func split(text string, most int, fits, take func(string) bool) {
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
		if strings.TrimSpace(text[:n]) != "" && !take(whole(n)) {
			return
		}
		fence = open(fence+text[:n], n == len(text))
		lineEnds := text[n-1] == '\n'
		text = text[n:]
		if fence == "" {
			continue
		}
		marks, _ := fenceOf(fence)
		if line, rest, _ := strings.Cut(text, "\n"); lineEnds && closes(line, marks) {
			fence, text = "", rest // it was closed already
			continue
		}
		if fence += "\n"; len(fence)+len(marks) > min(maxFence, most*3/4) {
			fence = ""
		}
	}
}

// maxFence is how long the lines are, in bytes, that a code block is closed and
// opened with where it is cut.
const maxFence = 200

// cut returns how much of a text to take: up to about the last line end that fits, or
// the last rune if not even a line does; one rune at least.
func cut(text string, fits func(int) bool) int {
	var ends []int
	for i := range len(text) {
		if text[i] == '\n' {
			ends = append(ends, i+1)
		}
	}
	if n := longest(len(ends), func(i int) int { return ends[i] }, fits); n > 0 && says(text[:n]) {
		return n
	}
	n := longest(len(text), func(i int) int { return i + 1 }, fits)
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

// longest returns the last of count lengths that fits, or 0. As finding out takes long,
// it leaves it at one that is at most a 32nd shorter.
func longest(count int, length func(int) int, fits func(int) bool) int {
	best := 0
	for low, high := 0, count; low < high && length(high-1)-best > best/32; {
		if i := (low + high) / 2; fits(length(i)) {
			best, low = length(i), i+1
		} else {
			high = i
		}
	}
	return best
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
	opening, fence := "", ""
	for line := range strings.Lines(text) {
		if !end && !strings.HasSuffix(line, "\n") {
			break
		}
		line = strings.TrimRight(line, "\r\n")
		marks, info := fenceOf(line)
		switch {
		case opening == "" && marks != "" && !(marks[0] == '`' && strings.Contains(info, "`")):
			opening, fence = line, marks
		case opening != "" && closes(line, fence):
			opening = ""
		}
	}
	return opening
}

// closes says whether a line closes the code block that a fence opened.
func closes(line, fence string) bool {
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
