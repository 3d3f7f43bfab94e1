package adapter

import (
	"context"
	"html"
	"net/url"
	"regexp"
	"strings"

	"github.com/go-joe/joe"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/outlet"
)

// An asked is a message, or an edit of one, while its handlers run: what the bot says meanwhile answers
// it. All methods take nil, for none.
type asked struct {
	message id.EventID
	author  id.UserID
	room    id.RoomID
	root    id.EventID // of the thread that the message is in, or ""
	text    string     // what was said, as plain makes it
}

// An askedEvent comes just before a message. It says nothing to the bot's handlers;
// when joe is done with it, the message's own are next.
type askedEvent struct{}

// emitSaid emits what somebody said, which is answered while its handlers run.
func (a *adapter) emitSaid(said any, text string, evt *event.Event, content *event.MessageEventContent) {
	to := &asked{
		message: evt.ID,
		author:  evt.Sender,
		room:    evt.RoomID,
		root:    threadOf(content.RelatesTo),
		text:    plain(text),
	}
	a.outlet.EmitAll(context.Background(),
		outlet.Emission{Data: askedEvent{}, Done: func(joe.Event) { a.answering.Store(to) }},
		outlet.Emission{Data: said, Done: func(joe.Event) { a.answering.Store(nil) }},
	)
}

// Older clients of Element still send threads as they were before Matrix had them (MSC3440).
const unstableThread event.RelationType = "io.element.thread"

// maxEventID is how long an event ID may be, in bytes (Matrix spec, "Common identifier
// format"). An answer in a thread holds its root twice, and may be cut to make room for it.
const maxEventID = 255

// threadOf returns the root of the thread that a message is in, or "".
func threadOf(relation *event.RelatesTo) id.EventID {
	if relation == nil || relation.Type != event.RelThread && relation.Type != unstableThread || len(relation.EventID) > maxEventID {
		return ""
	}
	return relation.EventID
}

// relation returns what an answer in a room relates to: nil, or the thread that is
// being answered there. A client without threads shows it as a reply
// (Matrix spec, "Fallback for unthreaded clients").
func (a *asked) relation(room id.RoomID) *event.RelatesTo {
	if a == nil || a.root == "" || a.room != room {
		return nil
	}
	return (&event.RelatesTo{}).SetThread(a.root, a.message)
}

// names says whether the message names a user who is not its author. An answer that
// repeats it is not to mention them: it was up to the author to do so.
func (a *asked) names(user id.UserID) bool {
	return a != nil && user != a.author && strings.Contains(a.text, strings.ToLower(user.String()[1:]))
}

var percent = regexp.MustCompile(`%[0-9a-fA-F]{2}`)

// plain returns a text with what Markdown and links may write otherwise as it is
// meant, and in lower case.
func plain(text string) string {
	text = strings.ReplaceAll(html.UnescapeString(text), `\`, "")
	return strings.ToLower(percent.ReplaceAllStringFunc(text, func(escaped string) string {
		decoded, _ := url.PathUnescape(escaped)
		return decoded
	}))
}
