package adapter

import (
	"encoding/json"
	"sort"
	"strings"
	"unicode/utf8"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/format"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// render turns Markdown into a message.
func (a *adapter) render(markdown string) *event.MessageEventContent {
	content := format.RenderMarkdown(markdown, true, false)
	content.MsgType = a.msgType
	return &content
}

// parts returns a text as the messages that say it in a room, each of which fits
// in an event.
func (a *adapter) parts(text string, room id.RoomID, relation *event.RelatesTo, encrypted bool) []*event.MessageEventContent {
	limit := wire.EventLimit(room.String(), a.client.UserID.String(), event.EventEncrypted.Type, "")
	if encrypted {
		// Ciphertext is base64 and comes with keys and the relation again.
		limit = limit/4*3 - 2048
	}
	var messages []*event.MessageEventContent
	split(text, limit, func(part string) bool {
		message := a.render(part)
		message.RelatesTo = relation
		content, err := json.Marshal(message)
		if err != nil {
			return true // the server will say what is wrong with it
		}
		size := len(content) // what is encrypted is not canonical
		if !encrypted {
			size = wire.CanonicalSize(content)
		}
		return size <= limit
	}, func(part string) {
		message := a.render(part)
		message.RelatesTo = relation
		messages = append(messages, message)
	})
	return messages
}

// split cuts a Markdown text into parts that fit, at line ends where it can. most
// is a length in bytes that no part that fits exceeds. A fenced code block that
// is cut ends with the one part and begins again with the next.
func split(text string, most int, fits func(string) bool, take func(string)) {
	fence := "" // the line that opened the block that text goes on with
	whole := func(n int) string { return closed(fence + text[:n]) }
	for strings.TrimSpace(text) != "" {
		n := len(text)
		if n > most || !fits(whole(n)) {
			n = cut(text[:min(n, most)], func(n int) bool { return fits(whole(n)) })
		}
		if strings.TrimSpace(text[:n]) != "" {
			take(whole(n))
		}
		fence = open(fence + text[:n])
		text = text[n:]
		if line, rest, _ := strings.Cut(text, "\n"); fence != "" && closes(line, fence) {
			fence, text = "", rest // it was closed already
		}
		if fence != "" {
			fence += "\n"
		}
	}
}

// cut returns how much of a text to take: up to the last line end that fits, or
// the last rune if not even a line does; one rune at least.
func cut(text string, fits func(int) bool) int {
	var ends []int
	for i := range len(text) {
		if text[i] == '\n' {
			ends = append(ends, i+1)
		}
	}
	if i := sort.Search(len(ends), func(i int) bool { return !fits(ends[i]) }); i > 0 && strings.TrimSpace(text[:ends[i-1]]) != "" {
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

// open returns the line that opens the fenced code block that a text ends in, or
// "": https://spec.commonmark.org/0.31.2/#fenced-code-blocks.
func open(text string) string {
	opening := ""
	for line := range strings.Lines(text) {
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
func closed(text string) string {
	opening := open(text)
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
