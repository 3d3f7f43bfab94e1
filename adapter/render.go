package adapter

import (
	"encoding/json"
	"fmt"
	"iter"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/util"
	"golang.org/x/net/html"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/format"
	"maunium.net/go/mautrix/format/mdext"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/wire"
)

var (
	markdown = newRenderer(format.Extensions)
	noTables = newRenderer(goldmark.WithExtensions(extension.Strikethrough, mdext.Spoiler))
)

// newRenderer returns what renders Markdown as mautrix does, but with HTML shown as it
// stands, and without definitions of links: else "[INFO]: done" would be one, and
// nobody would see it. Links are as type links lets them be.
func newRenderer(extensions goldmark.Option) goldmark.Markdown {
	return goldmark.New(
		goldmark.WithParser(parser.NewParser(
			parser.WithBlockParsers(parser.DefaultBlockParsers()...),
			parser.WithInlineParsers(parser.DefaultInlineParsers()...),
			parser.WithASTTransformers(util.Prioritized(links{}, 0)),
		)),
		extensions, format.HTMLOptions, goldmark.WithExtensions(mdext.EscapeHTML),
	)
}

// render turns Markdown into a message, perhaps an answer to another. Its plain text
// is the Markdown itself.
func (a *adapter) render(text string, to *asked) *event.MessageEventContent {
	text = strings.TrimRight(text, " \t\r\n")
	content := &event.MessageEventContent{MsgType: a.msgType, Body: text, Mentions: &event.Mentions{}}
	if nestsDeep(text) {
		return content
	}
	renderer := markdown
	if hasManyCells(text) {
		renderer = noTables
	}
	var formatted strings.Builder
	if err := renderer.Convert([]byte(text), &formatted); err != nil {
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
		if !to.names(user) {
			content.Mentions.Add(user)
		}
	}
	return content
}

// parts returns a text as the messages that say it in a room, perhaps in answer to
// another, each of which fits in an event. They are made one by one.
func (a *adapter) parts(text string, room id.RoomID, to *asked, encrypted bool) iter.Seq[*event.MessageEventContent] {
	limit := wire.EventLimit(room.String(), a.client.UserID.String(), event.EventEncrypted.Type, "")
	if encrypted {
		// Ciphertext is base64 and comes with keys and the relation again.
		limit = limit/4*3 - 2048
	}
	var fitted string // the part that was found last to fit, and its message
	var fitting *event.MessageEventContent
	message := func(part string) *event.MessageEventContent {
		if part == fitted && fitting != nil {
			return fitting
		}
		message := a.render(part, to)
		message.RelatesTo = to.relation(room)
		return message
	}
	fits := func(part string) bool {
		if laborious(part) {
			return false
		}
		m := message(part)
		if fit(m, limit, encrypted) {
			fitted, fitting = part, m
			return true
		}
		return false
	}
	return func(yield func(*event.MessageEventContent) bool) {
		split(sayable(text), limit, fits, func(part string) bool { return yield(message(part)) })
	}
}

// sayable returns a text without what no message can hold: in the place of invalid
// UTF-8 and of NUL is U+FFFD, as CommonMark wants it.
func sayable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
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
