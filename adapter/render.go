package adapter

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"golang.org/x/net/html"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/format"
	"maunium.net/go/mautrix/format/mdext"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/wire"
)

var (
	markdown = renderer(format.Extensions)
	noTables = renderer(goldmark.WithExtensions(extension.Strikethrough, mdext.Spoiler))
)

// renderer returns what renders Markdown as mautrix does, but with HTML shown as it
// stands, and without definitions of links: else "[INFO]: done" would be one, and
// nobody would see it.
func renderer(extensions goldmark.Option) goldmark.Markdown {
	return goldmark.New(
		goldmark.WithParser(parser.NewParser(
			parser.WithBlockParsers(parser.DefaultBlockParsers()...),
			parser.WithInlineParsers(parser.DefaultInlineParsers()...),
		)),
		extensions, format.HTMLOptions, goldmark.WithExtensions(mdext.EscapeHTML),
	)
}

// maxColumns is how many columns a table may have. Each of its lines gets as many
// cells, even if it is short, so that a wide one would take very much memory.
const maxColumns = 100

func hasWideLine(text string) bool {
	for line := range strings.Lines(text) {
		if strings.Count(line, "|") > maxColumns {
			return true
		}
	}
	return false
}

// render turns Markdown into a message. Its plain text is the Markdown itself.
func (a *adapter) render(text string) *event.MessageEventContent {
	text = strings.TrimRight(text, " \t\r\n")
	content := &event.MessageEventContent{MsgType: a.msgType, Body: text, Mentions: &event.Mentions{}}
	to := markdown
	if hasWideLine(text) {
		to = noTables
	}
	var formatted strings.Builder
	if err := to.Convert([]byte(text), &formatted); err != nil {
		panic(fmt.Errorf("a string builder takes everything: %w", err))
	}
	unwrapped := format.UnwrapSingleParagraph(formatted.String())
	if html.UnescapeString(unwrapped) == text {
		return content // there is nothing to format
	}
	m := read(unwrapped)
	if !m.blank { // as of "#", which means nothing
		content.Format, content.FormattedBody = event.FormatHTML, unwrapped
	}
	for _, user := range m.users {
		content.Mentions.Add(user)
	}
	return content
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
	var fitted string // the part that was found last to fit, and its message
	var fitting *event.MessageEventContent
	message := func(part string) *event.MessageEventContent {
		if part == fitted && fitting != nil {
			return fitting
		}
		message := a.render(part)
		message.RelatesTo = relation
		return message
	}
	split(text, limit, func(part string) bool {
		m := message(part)
		if fit(m, limit, encrypted) {
			fitted, fitting = part, m
			return true
		}
		return false
	}, func(part string) {
		messages = append(messages, message(part))
	})
	return messages
}

// fit says whether a message fits in an event.
func fit(message *event.MessageEventContent, limit int, encrypted bool) bool {
	// As JSON a byte takes six at most, and the rest of the message not much.
	if (len(message.Body)+len(message.FormattedBody))*6 < limit/2 {
		return true
	}
	content, err := json.Marshal(message)
	if err != nil {
		return true // the server will say what is wrong with it
	}
	if encrypted { // what is encrypted is not canonical
		return len(content) <= limit
	}
	return wire.CanonicalSize(content) <= limit
}
