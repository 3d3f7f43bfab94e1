package adapter

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// Called is by what the bot is addressed in a message.
type called struct {
	userID id.UserID
	name   string // display name, "" if there is none
	pill   string // the text of a link to the bot with which the message begins, or ""
}

// pointed says whether the sender's client marked that a message mentions the
// bot, and with the text of which link it begins.
func (c called) pointed(content *event.MessageEventContent) (ok bool, pill string) {
	ok = content.Mentions.Has(c.userID)
	if content.Format != event.FormatHTML || !strings.Contains(content.FormattedBody, "<a") {
		return ok, ""
	}
	m := read(content.FormattedBody)
	if len(m.users) > 0 && m.users[0] == c.userID {
		pill = strings.TrimPrefix(visible(m.pill), "@")
	}
	return ok || slices.Contains(m.users, c.userID), pill
}

// named says whether a text names the bot.
func (c called) named(text string) bool {
	return within(text, c.userID.String()) || within(text, c.name)
}

// marks are what may follow a name to address somebody; so may their full-width forms.
const marks = ":,：，"

// mayAddress says whether a text can begin by addressing somebody by a name,
// though the sender's client marked nothing.
func mayAddress(text string) bool {
	return strings.HasPrefix(visible(text), "@") || strings.ContainsAny(text, marks)
}

// strip removes the bot's name or user ID from the front of a text, if the text
// begins by addressing the bot: with a link to it, with a name and a colon or
// comma, with an "@" and the name, or with the name alone if the sender's client
// says that it means the bot (pointed). So "Mark, the door" addresses Mark, and
// "Mark the door" does not.
func (c called) strip(text string, pointed bool) (rest string, found bool) {
	trimmed := visible(text)
	if rest, ok := cutLink(trimmed, c.userID); ok && !continues(rest) {
		return trimAddress(rest), true
	}
	if rest, ok := cutFold(trimmed, c.userID.String()); ok && !continues(rest) && !possessive(rest) {
		return trimAddress(rest), true
	}
	bare, at := strings.CutPrefix(trimmed, "@")
	for _, name := range []string{c.pill, c.name, c.userID.Localpart()} {
		rest, ok := cutFold(bare, name)
		if !ok || continues(rest) || possessive(rest) {
			continue
		}
		if server, colon := strings.CutPrefix(rest, ":"); at && colon && !atSpace(server) {
			continue // a user of the same name on another server
		}
		if at || pointed || strings.IndexAny(rest, marks) == 0 {
			return trimAddress(rest), true
		}
	}
	return text, false
}

// cutLink cuts a link to a user, in Markdown, from the front of a text: some
// clients write their mentions so in the plain text too.
func cutLink(text string, user id.UserID) (rest string, ok bool) {
	label, target, ok := strings.Cut(text, "](")
	if !ok || !strings.HasPrefix(label, "[") {
		return "", false
	}
	end := ")"
	if strings.HasPrefix(target, "<") {
		target, end = target[1:], ">)"
	}
	uri, rest, ok := strings.Cut(target, end)
	return trimUnseen(rest), ok && linked(uri) == user
}

// trimAddress removes what stands between an address and what is said. A mark
// that may as well belong to what is said, as in "!help" or "-5", goes only if
// it stands apart from that.
func trimAddress(rest string) string {
	rest = visible(rest)
	mark, size := utf8.DecodeRuneInString(rest)
	said := rest[size:]
	if strings.ContainsRune(marks, mark) || strings.ContainsRune("!-–—", mark) && atSpace(said) {
		rest = said
	}
	return visible(rest)
}

// unseen says whether a rune has no look of its own, as those that say which way a
// text runs: clients put them around names, and people paste them. It is not one
// that says how others look, as in a flag.
func unseen(r rune) bool {
	return unicode.Is(unicode.Cf, r) && !unicode.In(r, unicode.Prepended_Concatenation_Mark, tags)
}

// tags are the runes that flags of regions are spelled with.
var tags = &unicode.RangeTable{R32: []unicode.Range32{{Lo: 0xe0001, Hi: 0xe007f, Stride: 1}}}

func trimUnseen(text string) string { return strings.TrimLeftFunc(text, unseen) }

// visible trims what is not seen from both ends of a text.
func visible(text string) string {
	return strings.TrimFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unseen(r) })
}

// cutFold is strings.CutPrefix in any case, whatever unseen runes are in the text, the
// word, or after it.
func cutFold(text, word string) (rest string, ok bool) {
	for _, want := range word {
		if unseen(want) {
			continue
		}
		text = trimUnseen(text)
		have, size := utf8.DecodeRuneInString(text)
		if size == 0 || have != want && !strings.EqualFold(string(have), string(want)) {
			return "", false
		}
		text, ok = text[size:], true
	}
	return trimUnseen(text), ok
}

// within says whether a text has a word in it, in any case, and not as a part of
// a longer word.
func within(text, word string) bool {
	var before rune
	for i, r := range text {
		if unseen(r) {
			continue
		}
		if !inWord(before) {
			if rest, ok := cutFold(text[i:], word); ok && !continues(rest) {
				return true
			}
		}
		before = r
	}
	return false
}

// continues says whether a text goes on with the word before it, as ".org" does
// with "@bot:example" and ":8448" with "@bot:example.org".
func continues(rest string) bool {
	first, size := utf8.DecodeRuneInString(rest)
	second, _ := utf8.DecodeRuneInString(rest[size:])
	switch first {
	case '.', '-':
		return inWord(second)
	case ':':
		return unicode.IsDigit(second)
	}
	return inWord(first)
}

// possessive says whether a text goes on as in "the bot's hat".
func possessive(rest string) bool {
	first, size := utf8.DecodeRuneInString(rest)
	second, _ := utf8.DecodeRuneInString(rest[size:])
	return (first == '\'' || first == '’') && inWord(second)
}

func atSpace(rest string) bool {
	first, size := utf8.DecodeRuneInString(trimUnseen(rest))
	return size == 0 || unicode.IsSpace(first)
}

func inWord(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_')
}
