package adapter

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"github.com/go-joe/joe"
	"github.com/go-joe/joe/reactions"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// receive emits what an event means to the bot.
func (a *adapter) receive(r *room, evt *event.Event) {
	defer session.Survive(a.log(r.id).WithField("event", evt.ID.String()), "handling an event")
	if evt.Type == event.StateMember {
		a.member(r, evt)
		return
	}
	if evt.Sender == a.client.UserID || evt.StateKey != nil {
		return
	}
	if evt.Type == event.EventEncrypted {
		a.hearEncrypted(r, evt)
		return
	}
	a.hear(r, evt)
}

// hear emits what an event in the clear means.
func (a *adapter) hear(r *room, evt *event.Event) {
	if evt.Content.Raw == nil {
		_ = json.Unmarshal(evt.Content.VeryRaw, &evt.Content.Raw) // which was decoded before
	}
	if parse(evt) != nil {
		a.malformed(r, evt)
		return
	}
	switch content := evt.Content.Parsed.(type) {
	case *event.MessageEventContent:
		if evt.Type == event.EventMessage {
			a.message(r, evt, content)
		}
	case *event.ReactionEventContent:
		rel := content.RelatesTo
		switch {
		case rel.GetAnnotationID() != "" && rel.Key != "":
			a.outlet.Emit(reactions.Event{
				Reaction:  asJoe(rel.GetAnnotationKey()),
				MessageID: rel.EventID.String(),
				Channel:   r.id.String(),
				AuthorID:  evt.Sender.String(),
			})
		case len(evt.Content.Raw) > 0: // else it was redacted
			a.malformed(r, evt)
		}
	case *event.RedactionEventContent:
		a.redaction(r, evt, content)
	}
}

// malformed says in the log that an event was not heard.
func (a *adapter) malformed(r *room, evt *event.Event) {
	a.log(r.id).WithField("event", evt.ID.String()).Debugf("An event of type %s was not heard, as what it needs is missing or of a wrong type", evt.Type.Type)
}

// redaction emits a redaction. What it redacts stands beside the content, and since
// room version 11 in it; homeservers give clients both. If they differ, it is not known
// which of them the homeserver has allowed.
func (a *adapter) redaction(r *room, evt *event.Event, content *event.RedactionEventContent) {
	redacted := cmp.Or(evt.Redacts, content.Redacts)
	if redacted == "" || content.Redacts != "" && content.Redacts != redacted {
		a.malformed(r, evt)
		return
	}
	r.aside.take(func(evt *event.Event) bool { return evt.ID == redacted })
	a.outlet.Emit(RedactionEvent{
		MessageID: redacted.String(),
		AuthorID:  evt.Sender.String(),
		Reason:    content.Reason,
		Channel:   r.id.String(),
		Data:      evt,
	})
}

// message emits a message or an edit.
func (a *adapter) message(r *room, evt *event.Event, content *event.MessageEventContent) {
	edited := content.RelatesTo.GetReplaceID()
	said := content
	if edited != "" {
		if said = content.NewContent; said == nil {
			a.malformed(r, evt)
			return
		}
	}
	text, isMessage := words(said)
	if !isMessage {
		return
	}
	bot := called{userID: a.client.UserID}
	pointed, pill := bot.pointed(said)
	bot.pill = pill
	if a.mentionsOnly || pointed || mayAddress(text) { // reading it may take a request
		bot.name = a.name(r, bot.userID)
	}
	named := bot.named(text)
	text, addressed := bot.strip(text, pointed)
	switch {
	case edited != "":
		a.emitSaid(EditEvent{
			ID:        evt.ID.String(),
			MessageID: edited.String(),
			Text:      text,
			AuthorID:  evt.Sender.String(),
			Channel:   r.id.String(),
			Data:      evt,
		}, text, evt, content)
	case a.mentionsOnly && !pointed && !named && !addressed && a.crowd(r):
		// It is not meant for the bot.
	default:
		a.emitSaid(joe.ReceiveMessageEvent{
			ID:       evt.ID.String(),
			Text:     text,
			AuthorID: evt.Sender.String(),
			Channel:  r.id.String(),
			Data:     evt,
		}, text, evt, content)
	}
}

// words returns what a person said with a message; false if it was no person, or
// no message to the room.
func words(content *event.MessageEventContent) (string, bool) {
	switch content.MsgType {
	case "", event.MsgNotice, "m.server_notice", event.MsgVerificationRequest:
		return "", false // "": redacted
	case event.MsgImage, event.MsgVideo, event.MsgAudio, event.MsgFile:
		return content.GetCaption(), true
	}
	if content.RelatesTo.GetNonFallbackReplyTo() != "" {
		return event.TrimReplyFallbackText(content.Body), true
	}
	return content.Body, true
}

// typing emits who has begun to type.
func (a *adapter) typing(r *room, n news) {
	for _, evt := range n.typing {
		evt.Type.Class = event.EphemeralEventType
		if evt.Type != event.EphemeralEventTyping || parse(evt) != nil {
			continue
		}
		before := r.typing
		r.typing = make(map[id.UserID]bool)
		for _, user := range evt.Content.AsTyping().UserIDs {
			r.typing[user] = true
		}
		if n.initial {
			continue
		}
		for _, user := range slices.Sorted(maps.Keys(r.typing)) {
			if user != a.client.UserID && !before[user] {
				a.outlet.Emit(joe.UserTypingEvent{
					User:    joe.User{ID: user.String(), Name: user.Localpart(), RealName: a.name(r, user)},
					Channel: r.id.String(),
				})
			}
		}
	}
}
