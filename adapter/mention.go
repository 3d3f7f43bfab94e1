package adapter

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/format"
	"maunium.net/go/mautrix/id"
)

// Called is by what the bot is addressed in a room.
type called struct {
	userID id.UserID
	name   string // display name, "" if there is none
}

// pointed says whether the sender's client marked that a message mentions the bot.
func (c called) pointed(content *event.MessageEventContent) bool {
	return content.Mentions.Has(c.userID) || c.linked(content)
}

// named says whether a text names the bot.
func (c called) named(text string) bool {
	return within(text, c.userID.String()) || c.name != "" && within(text, c.name)
}

// linked says whether the message has a link to the bot, other than in what it
// replies to.
func (c called) linked(content *event.MessageEventContent) bool {
	html := event.TrimReplyFallbackHTML(content.FormattedBody)
	if content.Format != event.FormatHTML || !strings.Contains(html, "<a") {
		return false
	}
	_, mentions := format.HTMLToMarkdownFull(nil, html)
	return mentions.Has(c.userID)
}

// strip removes the bot's name or user ID from the front of a text, if the text
// begins by addressing the bot: with a name and a colon or comma, with an "@" and
// the name, or with the name alone if the sender's client says that it means the
// bot (pointed). So "Mark, the door" addresses Mark, and "Mark the door" does not.
func (c called) strip(text string, pointed bool) (rest string, found bool) {
	trimmed := strings.TrimLeftFunc(text, unicode.IsSpace)
	if rest, ok := cutPrefix(trimmed, c.userID.String()); ok {
		return trimAddress(rest), true
	}
	bare, at := strings.CutPrefix(trimmed, "@")
	for _, name := range []string{c.name, c.userID.Localpart()} {
		if name == "" {
			continue
		}
		rest, ok := cutPrefix(bare, name)
		if at && strings.HasPrefix(rest, ":") && !strings.HasPrefix(rest, ": ") {
			continue // a user of the same name on another server
		}
		if ok && (at || pointed || strings.HasPrefix(rest, ":") || strings.HasPrefix(rest, ",")) {
			return trimAddress(rest), true
		}
	}
	return text, false
}

// trimAddress removes what stands between an address and what is said.
func trimAddress(rest string) string {
	rest = strings.TrimLeftFunc(rest, unicode.IsSpace)
	if strings.HasPrefix(rest, ":") || strings.HasPrefix(rest, ",") {
		rest = rest[1:]
	}
	return strings.TrimSpace(rest)
}

// cutPrefix is strings.CutPrefix for a whole word in any case.
func cutPrefix(text, word string) (rest string, ok bool) {
	if len(text) < len(word) || !strings.EqualFold(text[:len(word)], word) {
		return "", false
	}
	rest = text[len(word):]
	return rest, !continues(rest)
}

// within says whether a text has a word in it, in any case, and not as a part of
// a longer word.
func within(text, word string) bool {
	text, word = strings.ToLower(text), strings.ToLower(word)
	for at := 0; ; {
		i := strings.Index(text[at:], word)
		if i < 0 {
			return false
		}
		i += at
		before, _ := utf8.DecodeLastRuneInString(text[:i])
		if !inWord(before) && !continues(text[i+len(word):]) {
			return true
		}
		_, size := utf8.DecodeRuneInString(text[i:])
		at = i + size
	}
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

func inWord(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_')
}
